"""The verbs of `scanside`: parse, load settings, run. Nothing else lives here.

Exit codes: 0 done, 1 the work failed (one line on stderr, no traceback), 2 wrong usage.
Libraries are imported inside each verb: a stage loads only its own.
"""

from __future__ import annotations

import getpass
import json
import logging
import os
import pwd
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from appliance import settings as site
from appliance.errors import ScansideError, StateUnusable
from appliance.stages import STAGES, Stage
from appliance.verbs.bundle_verbs import bundle_group
from appliance.verbs.compare_verb import compare_verb
from appliance.verbs.drift_verbs import drift_group
from appliance.verbs.enroll_verb import enroll
from appliance.verbs.priors_verbs import priors_group
from appliance.verbs.qa_verb import qa_verb
from appliance.verbs.quality_verb import quality_verb
from appliance.verbs.stage_verbs import Config, Configured, web_group
from appliance.verbs.update_verbs import update_group

app = typer.Typer(
    name="scanside",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
outbox_app = typer.Typer(help="What is owed to whom, and what is dead.", no_args_is_help=True)
app.add_typer(outbox_app, name="outbox")
journal_app = typer.Typer(help="The journal of this device.", no_args_is_help=True)
app.add_typer(journal_app, name="journal")
feedback_app = typer.Typer(help="What readers said of findings.", no_args_is_help=True)
app.add_typer(feedback_app, name="feedback")

Key = Annotated[
    str | None, typer.Option(help="Name it by its key: for a destination that draws no seq.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"scanside {version('scanside')}")
        raise typer.Exit


@app.callback()
def scanside(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Say which and exit."),
    ] = False,
) -> None:
    """A box beside a scanner: DICOM in, findings out over MQTT.

    Research use, not for clinical use.
    """


def _settings(config: Path | None, row: Stage | None = None) -> site.Settings:
    """The settings of a verb that may write into a folder of ours: what it writes is its own."""
    os.umask(0o077)
    settings = site.load(site.find(config))
    _as_its_owner(settings.state if row is None else row.home(settings))
    return settings


def _as_its_owner(state: Path) -> None:
    """Files that root makes in a state folder of the services' user would stop the services."""
    owner = state.stat().st_uid if state.is_dir() else os.geteuid()
    if os.geteuid() == 0 and owner != 0:
        try:
            name = pwd.getpwuid(owner).pw_name
        except KeyError:
            name = f"#{owner}"
        raise StateUnusable(
            f"{state} belongs to {name}, and you are root",
            remedy=f"Type: sudo -u '{name}' scanside ...",
            code="not_its_owner",
        )


def _log(level: int = logging.INFO) -> None:
    logging.basicConfig(
        level=level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    for library in ("pydicom", "pynetdicom", "openjpeg"):
        # What matters of theirs is our error, and their lines quote values of headers. No level
        # holds: pydicom sets its own when it is imported, which may be much later.
        logging.getLogger(library).propagate = False
        logging.getLogger(library).addHandler(logging.NullHandler())


def _user() -> str:
    """Who typed it, for the audit; in a container a uid may have no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


@app.command()
def demo(
    series: Annotated[
        Path | None,
        typer.Option(help="Send this folder instead of the phantom.", exists=True, file_okay=False),
    ] = None,
    radiograph: Annotated[
        bool, typer.Option("--radiograph", help="Send a made-up radiograph instead of a CT.")
    ] = False,
    pacs: Annotated[
        bool, typer.Option("--pacs", help="With an Orthanc that gets the results.")
    ] = False,
    follow_up: Annotated[
        bool,
        typer.Option("--follow-up", help="A person twice, a year apart, then a stranger."),
    ] = False,
    drift: Annotated[
        bool, typer.Option("--drift", help="A scanner whose kernel changes silently; ends then.")
    ] = False,
    once: Annotated[bool, typer.Option("--once", help="Send once, then end.")] = False,
    out: Annotated[Path, typer.Option(help="Folder for the picture.")] = Path("demo-out"),
) -> None:
    """Everything on one machine: broker, appliance, a scanner."""
    from appliance.demo import drift as drifting
    from appliance.demo import follow_up as followed
    from appliance.demo import show

    _log(logging.WARNING)
    if radiograph and series is not None:
        raise typer.BadParameter("--radiograph sends a phantom of its own: leave --series out")
    if follow_up and (radiograph or pacs or series is not None):
        raise typer.BadParameter("--follow-up sends phantoms of its own, to no archive: alone")
    if drift and (radiograph or pacs or follow_up or series is not None):
        raise typer.BadParameter("--drift sends phantoms of its own, to no archive: alone")
    if drift:
        raise typer.Exit(drifting.run(out=out))
    if follow_up:
        raise typer.Exit(followed.run(once=once, out=out))
    raise typer.Exit(show.run(series=series, once=once, out=out, projected=radiograph, pacs=pacs))


@app.command()
def run(config: Config = None) -> None:
    """All stages under one parent."""
    from appliance.host import notify
    from appliance.run import parent
    from appliance.store.lock import alone

    _log()
    settings = _settings(config)  # a wrong settings file is one error, not one from each stage
    with alone(settings.state, "run"):
        raise typer.Exit(parent.run(site.find(config), settings, ready=notify.ready))


def _stage(row: Stage) -> Callable[[Path | None, bool], None]:
    """The verb of one row of the table of stages."""

    def serve(config: Config = None, configured: Configured = False) -> None:
        from appliance.host import notify
        from appliance.store import starts, trial

        _log()
        settings = _settings(config, row)
        if configured:
            raise typer.Exit(0 if row.configured(settings) else 1)
        more = {"migrate": not trial.on_trial()} if row.migrates else {}
        with starts.counted(row.home(settings), row.name):
            code = import_module(row.module).main(settings, ready=notify.ready, **more)
        raise typer.Exit(code)

    return serve


for _row in STAGES:
    if _row.name == "web":  # it has verbs of its own
        app.add_typer(web_group(_row.help, _stage(_row), _settings, _user), name="web")
    elif _row.name == "update":
        app.add_typer(update_group(_row.help, _stage(_row)), name="update")
    else:
        app.command(_row.name, help=_row.help)(_stage(_row))


app.command()(enroll)
app.add_typer(bundle_group(_settings, _user, _log), name="bundle")
app.add_typer(priors_group(_settings, _user, _log), name="priors")
app.add_typer(drift_group(_settings, _user, _log), name="drift")
app.command("compare")(compare_verb(_settings, _log))
app.command("qa")(qa_verb(_settings, _log))
app.command("quality")(quality_verb(_settings, _log))


@app.command()
def analyze(
    path: Annotated[Path, typer.Argument(help="A folder or file of DICOM images.")],
    bundle: Annotated[
        str | None, typer.Option(help="Name or .scanside file of one bundle.")
    ] = None,
    as_json: AsJson = False,
    dicom: Annotated[
        Path | None,
        typer.Option("--dicom", help="Folder for SR, SEG and pictures.", file_okay=False),
    ] = None,
    config: Config = None,
) -> None:
    """Analyse a folder, no network: one Report a series and bundle."""
    from appliance.verbs import analyze as verb

    _log(logging.WARNING)
    settings = _settings(config)
    analysed = verb.analysed(path, settings, bundle=bundle)
    reports = [one.report for one in analysed]
    if dicom is not None:
        from appliance.verbs import objects

        for line in objects.write(analysed, settings, dicom):
            print(line, file=sys.stderr)
    if as_json:
        print(json.dumps([json.loads(r.to_json()) for r in reports], indent=1))
    else:
        verb.show(reports)
    raise typer.Exit(verb.exit_code(reports))


@app.command()
def send(
    folder: Annotated[Path, typer.Argument(help="DICOM files, walked.")],
    to: Annotated[str, typer.Option("--to", help="AE@HOST:PORT")],
    calling: Annotated[str, typer.Option(help="Our AE title.")] = "SCANNER",
) -> None:
    """Be a scanner: send a folder by C-STORE."""
    from appliance.demo import scanner

    _log(logging.WARNING)
    raise typer.Exit(scanner.main(folder, to, calling))


@app.command()
def prove(
    bundles: Annotated[list[Path] | None, typer.Argument()] = None,
    as_json: AsJson = False,
    source: Annotated[Path | None, typer.Option(hidden=True)] = None,
    into: Annotated[Path | None, typer.Option(hidden=True)] = None,
    config: Config = None,
) -> None:
    """Whether bundles compute here what they should."""
    from appliance.verbs import prove as verb

    _log(logging.WARNING)
    if source is not None and into is not None:
        raise typer.Exit(verb.build(source, into))
    if not bundles:
        raise typer.BadParameter("name a bundle, or a folder of them")
    raise typer.Exit(verb.main(bundles, _settings(config), as_json=as_json))


@app.command()
def doctor(as_json: AsJson = False, config: Config = None) -> None:
    """Check every link; each failure with the line to change."""
    from appliance.verbs import doctor as verb

    _log(logging.ERROR)
    raise typer.Exit(verb.main(site.find(config), as_json=as_json))


@app.command()
def replay(report_id: str, config: Config = None) -> None:
    """Recompute a past report or comparison, and say whether it is the same."""
    from appliance.verbs import replay as verb

    _log(logging.WARNING)
    raise typer.Exit(verb.main(_settings(config), report_id))


@app.command()
def retry(
    series: Annotated[
        str | None, typer.Argument(help="Series Instance UID of one that failed.")
    ] = None,
    failed: Annotated[bool, typer.Option("--failed", help="All that have failed.")] = False,
    config: Config = None,
) -> None:
    """Try series that failed again (audited)."""
    from appliance.verbs import retry as verb

    _log(logging.WARNING)
    if (series is None) != failed:
        raise typer.BadParameter("name one series, or give --failed")
    print(f"{verb.retry(_settings(config), series)} tried again")


@app.command()
def discard(
    series: Annotated[str, typer.Argument(help="Series Instance UID.")],
    study: Annotated[
        str | None, typer.Option(help="Study Instance UID, where two studies have the series.")
    ] = None,
    config: Config = None,
) -> None:
    """Delete the images of a series, to be sent again (audited)."""
    from appliance.verbs import discard as verb

    _log(logging.WARNING)
    count = verb.discard(_settings(config), series, study)
    print(f"{count} images are deleted: send the series again")


@app.command("site-key")
def site_key(
    accept: Annotated[
        bool, typer.Option("--accept", help="The key that lies there counts from now on; audited.")
    ] = False,
    config: Config = None,
) -> None:
    """Which key makes the pseudonyms; accept another one."""
    from appliance.verbs import site_key as verb

    _log(logging.WARNING)
    settings = _settings(config)
    print(verb.accept(settings) if accept else verb.show(settings))


@outbox_app.command("list")
def outbox_list(config: Config = None) -> None:
    """Messages that are waiting or dead."""
    from appliance.verbs import outbox

    outbox.show(_settings(config))


@outbox_app.command("retry")
def outbox_retry(
    seq: Annotated[int | None, typer.Argument(help="One message; all dead ones without.")] = None,
    key: Key = None,
    config: Config = None,
) -> None:
    """Send dead messages again."""
    from appliance.verbs import outbox

    print(f"{outbox.retry(_settings(config), key if seq is None else seq)} waiting again")


@outbox_app.command("drop")
def outbox_drop(
    seq: Annotated[int | None, typer.Argument(help="One message.")] = None,
    key: Key = None,
    to: Annotated[
        str | None,
        typer.Option(
            help="For this destination alone; without a message all of it, if it is gone."
        ),
    ] = None,
    config: Config = None,
) -> None:
    """Give one message up for good (audited): for each that it is owed to, or for one."""
    from appliance.verbs import outbox

    which = key if seq is None else seq
    if which is None and to is not None:
        print(f"dropped {outbox.drop_all(_settings(config), to)} for {to}")
        return
    if which is None:
        raise typer.BadParameter("name what is to be dropped: SEQ, --key KEY or --to NAME")
    outbox.drop(_settings(config), which, to)
    print(f"dropped {which}")


@journal_app.command("confirm")
def journal_confirm(config: Config = None) -> None:
    """Confirm that the journal was damaged, so that the device says it no more (audited)."""
    from appliance.verbs import journal

    print(f"confirmed: {journal.confirm(_settings(config))}; the status changes within a minute")


@feedback_app.command("export")
def feedback_export(
    out: Annotated[Path, typer.Argument(help="A new folder.", file_okay=False)],
    config: Config = None,
) -> None:
    """All of it as JSON, and an SR of each report whose images are still here."""
    from appliance.verbs import feedback

    _log(logging.WARNING)
    for line in feedback.export(_settings(config), out):
        print(line)


def main() -> None:
    """Console script."""
    try:
        app(prog_name="scanside")
    except ScansideError as e:
        print(f"scanside: {e.one_line()}", file=sys.stderr)
        sys.exit(1)
    except PermissionError as e:
        remedy = "Run it as the user that owns this, or correct its rights."
        print(f"scanside: {e.filename}: {e.strerror} [not_permitted] {remedy}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
