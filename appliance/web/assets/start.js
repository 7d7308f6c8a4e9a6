// The page of a link that opens Scanside once: the secret stands behind the # of the address.
// It goes into the form, and out of the address and the history. Only the button spends it.
"use strict";
const field = document.getElementById("secret");
const secret = location.hash.slice(1);
if (secret) {
  field.value = secret;
  history.replaceState(null, "", location.pathname);
}
