/* The results of a series that can be shown, as a person chooses among them; and texts with their
   places filled. */

/** A text with its places filled, as the pages fill them (text/say.py). */
export function fill(text, values) {
  return text.replace(/\{(\w+)(?::([^|}]*)\|([^}]*))?\}/g, (_, name, one, other) => {
    if (one === undefined) return values[name];
    return Number(values[name]) === 1 ? one : other;
  });
}

/** What can be chosen, into a <select>; shown: the report_id of what is looked at. */
export function offer(select, results, shown, words) {
  select.replaceChildren(...results.map((one) => {
    const said = one.bundle ? [one.bundle] : [];
    said.push(fill(words.result_of, one));
    if (one.stage === "preliminary") said.push(words.preliminary);
    if (!one.stands) said.push(words.stands_not);
    return new Option(said.join(", "), one.report, false, one.report === shown);
  }));
}

/** What is to be said of a result that does not count; null of one that does. */
export function warning(results, shown, words) {
  const one = results.find(({ report }) => report === shown);
  return one && !one.stands ? `${fill(words.result_of, one)}: ${words.stands_not}` : null;
}
