"""Who may open an association, and what is negotiated. Pure.

Who. Default-deny: the called AE title must be ours, and calling AE title and host must match one
`[[dicom.allow]]` of the settings. A refusal says in one sentence which setting to change; the
answer to the peer says no more than PS3.8 9.3.4 has codes for.

What (PS3.8 7.1.1.13). Verification, every storage class of the standard, and private ones:
a scanner sends dose reports, presentation states and its vendor's objects along with the images,
and one refused context fails the study at its console. `work` sets aside what it does not analyse.
Everything else (query, worklist, print) is refused with reason 3, abstract syntax not supported.
The acceptor chooses the transfer syntax (PS3.8 9.3.3.2): of those offered in a context
the first in `TRANSFER_SYNTAXES`, which is the table of what `work` decodes (`syntaxes`), and video
for classes that are not analysed.
No asynchronous operations window is answered: then it is 1, 1 (PS3.7 D.3.3.3).

Storage commitment (PS3.4 J). An archive answers on an association that it opens, as the SCP
(J.3.3.1.3), so here alone a role is negotiated (PS3.7 D.3.3.4): every other requestor is SCU. Who
may be SCP is an `Archive`, by its AE title, its address and, where that is set, its certificate; an
archive that no `[[dicom.allow]]` names may do nothing else. Who may be SCU, and ask us, is an
allowed sender while `[dicom] commitment` is `relay`.

Certificates. Where a line names one, the sender must have shown it: that the authority of
`[dicom.tls]` has signed another one is not enough.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NamedTuple

from appliance.dicom import commitment, storage, syntaxes
from appliance.report import Priority
from appliance.settings import Allow, Dicom, Settings

VERIFICATION = "1.2.840.10008.1.1"
APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"  # PS3.7 A.2.1
DICOM_ROOT = "1.2.840.10008."

ACCEPTED, NO_ABSTRACT_SYNTAX, NO_TRANSFER_SYNTAX = 0, 3, 4  # PS3.8 table 9-18

Rejection = tuple[int, int, int]
"""Result, source, reason of an A-ASSOCIATE-RJ (PS3.8 table 9-21)."""
CONTEXT_NAME_NOT_SUPPORTED: Rejection = (1, 1, 2)
CALLING_AE_NOT_RECOGNIZED: Rejection = (1, 1, 3)
CALLED_AE_NOT_RECOGNIZED: Rejection = (1, 1, 7)
PROTOCOL_VERSION_NOT_SUPPORTED: Rejection = (1, 2, 2)
TEMPORARY_CONGESTION: Rejection = (2, 3, 1)
LOCAL_LIMIT_EXCEEDED: Rejection = (2, 3, 2)

TRANSFER_SYNTAXES = (*(row.uid for row in syntaxes.TABLE), *syntaxes.VIDEO)
_RANK = {uid: rank for rank, uid in enumerate(TRANSFER_SYNTAXES)}


class Roles(NamedTuple):
    """What the requestor is of a SOP class (PS3.7 D.3.3.4)."""

    scu: bool
    scp: bool


@dataclass(frozen=True, slots=True)
class Archive:
    """A destination that may tell us whether it keeps what it took."""

    name: str
    """As the journal has it."""
    ae_title: str
    """How it calls itself."""
    ours: str
    """How it calls us."""
    hosts: frozenset[str]
    """Its addresses."""
    certificate: str | None = None


@dataclass(frozen=True, slots=True)
class Grants:
    """What an association may do."""

    stores: bool = True
    archives: tuple[str, ...] = ()
    """The names of all destinations that this peer is: it may answer for them."""
    asks: bool = False
    """Whether it may ask us to promise."""
    answer_to: str | None = None
    """AE@HOST:PORT to which what it asked is answered."""


SENDER: Final = Grants()


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether an association may be opened; `text` and `remedy` say why not and what to change."""

    rejection: Rejection | None
    text: str
    remedy: str = ""
    of_share: bool = False
    """Whether there would be a place for another sender."""
    grants: Grants = SENDER

    @property
    def allowed(self) -> bool:
        return self.rejection is None


@dataclass(frozen=True, slots=True)
class Proposed:
    """One proposed presentation context (PS3.8 9.3.2.2)."""

    id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Context:
    """The answer to one: `result` 0 means accepted, with the one transfer syntax chosen."""

    id: int
    abstract_syntax: str
    transfer_syntax: str
    result: int
    roles: Roles | None = None
    """Those of the requestor, where it asked for any."""


def archives(
    settings: Settings,
    resolve: Callable[[str], Collection[str]] = lambda _: (),
    *,
    calling_ae: str | None = None,
) -> tuple[Archive, ...]:
    """Every destination that is asked to promise; calling_ae: those with this AE title.

    resolve: a host name -> its addresses; without it a destination that is named so has none.
    """
    return tuple(
        Archive(
            one.name,
            one.called_ae,
            one.ae_title,
            frozenset((address,) if (address := _address(one.host)) else resolve(one.host)),
            one.certificate,
        )
        for one in settings.promising
        if calling_ae is None or one.called_ae == calling_ae.strip()
    )


def decide(
    settings: Dicom,
    *,
    calling_ae: str,
    called_ae: str,
    host: str,
    archives: Collection[Archive] = (),
    shown: Collection[str] = (),
) -> Decision:
    """May this peer open an association? Spaces around AE titles do not count (PS3.5 6.2).

    A host that no line names gets one answer whatever it calls: it cannot try our AE title out.
    shown: the names of its certificate (`certificate.names`), where it has shown one.
    """
    calling, called = calling_ae.strip(), called_ae.strip()
    known = [
        one
        for one in archives
        if one.ae_title == calling
        and called in (one.ours, settings.ae_title)
        and unmapped(host) in one.hosts
    ]
    answers_for = tuple(one.name for one in known if _is_shown(one.certificate, shown))
    line = _match(settings.allow, calling, host)
    sends = line is not None and called == settings.ae_title
    if line is not None and sends and _is_shown(line.certificate, shown):
        text = f"association accepted: '{plain(calling)}' from {host}"
        asks = settings.commitment == "relay"
        return Decision(None, text, grants=Grants(True, answers_for, asks, line.commitment))
    if answers_for:
        text = f"association accepted: the archive '{plain(calling)}' from {host}"
        return Decision(None, text, grants=Grants(stores=False, archives=answers_for))
    if not known_host(settings, host, archives):
        return _not_allowed(calling, host)
    if sends or known:
        section = "[[dicom.allow]]" if sends else "[[deliver]]"
        return Decision(
            CALLING_AE_NOT_RECOGNIZED,
            f"association refused: '{plain(calling)}' from {host} has not shown its certificate",
            f"correct `certificate` in its {section}, or let it show that one",
        )
    if called != settings.ae_title:
        return Decision(
            CALLED_AE_NOT_RECOGNIZED,
            f"association refused: '{plain(calling)}' from {host} called '{plain(called)}', "
            f"this is '{settings.ae_title}'",
            f'set ae_title = "{settings.ae_title}" at the sender, or [dicom] ae_title here',
        )
    return _not_allowed(calling, host)


def _not_allowed(calling: str, host: str) -> Decision:
    return Decision(
        CALLING_AE_NOT_RECOGNIZED,
        f"association refused: calling AE '{plain(calling)}' from {host} is not allowed",
        f'add [[dicom.allow]] ae_title = "{plain(calling)}" host = "{host}"',
    )


ANY_ADDRESS = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared with, not bound to


ADDRESS_NAME = "receive.address"
"""In run/ while `receive` serves: the address that is bound."""


def holds(bind: str, bound: str) -> bool:
    """Whether a socket bound to `bound` is what `[dicom] bind` asks for."""
    return bind in ANY_ADDRESS or unmapped(bind) == unmapped(bound)


def unmapped(host: str) -> str:
    """An address as it is written in settings and logs: of IPv4 where a socket of IPv6 shows it as
    ::ffff:192.0.2.17 (RFC 4291 2.5.5.2), and without a zone."""
    plain_host = host.partition("%")[0]
    try:
        address = ipaddress.ip_address(plain_host)
    except ValueError:
        return host
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def room(
    settings: Dicom, opened: Collection[tuple[str, str]], *, calling_ae: str, host: str
) -> Decision | None:
    """Why there is no place for one more association of this allowed sender; None where there is.

    opened: calling AE title and host of each that is open. A sender is an AE title at a host; the
    refusal is transient (PS3.8 9.3.4: source 3, reason 2), so it may ask again.
    """
    limit, share = settings.max_associations, settings.most_of_one_sender
    calling, at = calling_ae.strip(), unmapped(host)
    if len(opened) >= limit:
        return Decision(
            LOCAL_LIMIT_EXCEEDED,
            f"association refused: {limit} are open",
            "raise [dicom] max_associations, or let the senders use fewer",
        )
    mine = sum((ae.strip(), unmapped(other)) == (calling, at) for ae, other in opened)
    if mine >= share:
        return Decision(
            LOCAL_LIMIT_EXCEEDED,
            f"association refused: '{plain(calling)}' from {at} has {mine} open, its share of "
            f"{limit}",
            "raise [dicom] share or max_associations, or let the sender use fewer",
            of_share=True,
        )
    return None


def is_doctor(settings: Dicom, *, calling_ae: str, host: str) -> bool:
    """Whether our own doctor asks: under our own AE title, from this machine itself."""
    here = ("127.0.0.0/8", "::1")
    return calling_ae.strip() == settings.ae_title and (
        any(_in_network(host, one) for one in here) or unmapped(host) == unmapped(settings.bind)
    )


def known_host(settings: Dicom, host: str, archives: Collection[Archive] = ()) -> bool:
    """Whether any allowed peer, or archive, may come from this host."""
    return any(_in_network(host, allow.host) for allow in settings.allow) or any(
        unmapped(host) in one.hosts for one in archives
    )


def quiet_s(settings: Settings, calling_ae: str) -> float:
    """How long a series of this sender must be quiet where nothing else says it is complete."""
    own = next((a for a in settings.dicom.allow if a.ae_title == calling_ae.strip()), None)
    anyone = next((a for a in settings.dicom.allow if a.ae_title == "*"), None)
    for allow in (own, anyone):
        if allow is not None and allow.quiet_s is not None:
            return allow.quiet_s
    return settings.work.quiet_s


def priority(settings: Settings, calling_ae: str) -> Priority:
    """How urgent the series of this sender are: its own line's word, else that of `*`."""
    lines = settings.dicom.allow
    own = [a.priority for a in lines if a.ae_title == calling_ae.strip()]
    levels = own or [a.priority for a in lines if a.ae_title == "*"]
    return "stat" if "stat" in levels else "routine"


def sends_priors(settings: Settings, calling_ae: str) -> bool:
    """Whether this sender pushes earlier exams alone: its own lines' word, else that of `*`. Where
    two lines differ, it sends exams."""
    lines = settings.dicom.allow
    own = [a.role for a in lines if a.ae_title == calling_ae.strip()]
    roles = own or [a.role for a in lines if a.ae_title == "*"]
    return bool(roles) and set(roles) == {"prior"}


def any_priors(settings: Settings) -> bool:
    """Whether any sender may be one of earlier exams."""
    return any(one.role == "prior" for one in settings.dicom.allow)


def are_priors(settings: Settings, senders: Collection[str] | None) -> bool:
    """Whether images from just these senders are an earlier exam. None: nobody knows who sent them;
    then they are not."""
    return bool(senders) and all(sends_priors(settings, ae) for ae in senders or ())


def makes_exams(settings: Settings, calling_ae: str, senders: Collection[str] | None) -> bool:
    """Whether what came from these senders is no earlier exam any more once this one sends it."""
    return are_priors(settings, senders) and not sends_priors(settings, calling_ae)


def negotiate(
    proposed: Iterable[Proposed],
    roles: Mapping[str, Roles] = MappingProxyType({}),
    grants: Grants = SENDER,
) -> list[Context]:
    """Answer every proposed presentation context, in the order they came.

    roles: that the requestor asks for, by SOP class.
    """
    return [
        _commitment(context, roles.get(context.abstract_syntax), grants)
        if context.abstract_syntax == commitment.PUSH_MODEL
        else _answer(context, grants)
        for context in proposed
    ]


def _commitment(context: Proposed, asked: Roles | None, grants: Grants) -> Context:
    """Storage commitment: the roles that this peer asks for and may have."""
    would = asked or Roles(scu=True, scp=False)
    agreed = Roles(would.scu and grants.asks, would.scp and bool(grants.archives))
    offered = [uid for uid in commitment.SYNTAXES if uid in context.transfer_syntaxes]
    if any(agreed) and offered:
        result = ACCEPTED
    else:
        result = NO_TRANSFER_SYNTAX if any(agreed) else NO_ABSTRACT_SYNTAX
    chosen = (*offered, *commitment.SYNTAXES)[0]
    return Context(context.id, context.abstract_syntax, chosen, result, agreed if asked else None)


def _answer(context: Proposed, grants: Grants) -> Context:
    offered = context.transfer_syntaxes
    any_of_them = offered[0] if offered else TRANSFER_SYNTAXES[0]  # not significant if refused
    may_store = grants.stores and stores(context.abstract_syntax)
    if not may_store and context.abstract_syntax != VERIFICATION:
        return Context(context.id, context.abstract_syntax, any_of_them, NO_ABSTRACT_SYNTAX)
    video = () if context.abstract_syntax in storage.ANALYSED else syntaxes.VIDEO
    known = [uid for uid in offered if uid in syntaxes.BY_UID or uid in video]
    if not known:
        return Context(context.id, context.abstract_syntax, any_of_them, NO_TRANSFER_SYNTAX)
    return Context(context.id, context.abstract_syntax, min(known, key=_RANK.__getitem__), ACCEPTED)


def stores(abstract_syntax: str) -> bool:
    """Whether instances of this class are taken: all storage classes and private ones."""
    return abstract_syntax in storage.CLASSES or not abstract_syntax.startswith(DICOM_ROOT)


def _match(allowed: Iterable[Allow], calling: str, host: str) -> Allow | None:
    for allow in allowed:
        if allow.ae_title in (calling, "*") and _in_network(host, allow.host):
            return allow
    return None


def _is_shown(certificate: str | None, shown: Collection[str]) -> bool:
    """Whether the certificate that a line names was shown; it need not name one."""
    return certificate is None or certificate.lower() in shown


def _address(host: str) -> str | None:
    """A host that is an address, as `unmapped` writes it; None: it is a name."""
    try:
        return unmapped(str(ipaddress.ip_address(host)))
    except ValueError:
        return None


def _in_network(host: str, network: str) -> bool:
    try:
        address = ipaddress.ip_address(unmapped(host))
    except ValueError:
        return False
    return address in ipaddress.ip_network(network, strict=False)


def plain(title: str) -> str:
    """An AE title as sent, fit for a log line and a TOML string."""
    return "".join(c if " " <= c <= "~" and c not in "\\\"'" else "?" for c in title)[:16]
