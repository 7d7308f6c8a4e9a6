#!/bin/sh
# guard: leaves a release on trial that does not run, and finishes what a power cut broke off.
#
#   guard.sh watch [ROOT [TRUSTED]]          every 10 s while a release is on trial
#   guard.sh boot  [ROOT [TRUSTED]]          before any stage starts
#   guard.sh start ROOT TRUSTED STAGE...     then: the stages of the slot `current`
#
# It lies outside of the slots and needs no Python: what it watches may have broken both. POSIX sh,
# with mv -T and timeout, as coreutils and busybox have them.
#
# Files (appliance/update/places.py, appliance/store/trial.py)
#   TRUSTED/trial            slot=2, previous=1, stages=publish work ..., state=/var/lib/scanside
#   TRUSTED/reason           slot=2 stage=work why=starts, written before it goes back
#   TRUSTED/alive            UPTIME_S BOOT: when `apply` was last seen to live in a trial
#   STATE/trial/STAGE.starts a line at each start: SLOT
#   STATE/trial/STAGE.beat   SLOT UPTIME_S ALLOWED_S STARTS BOOT
#
# It goes back where, in the slot on trial,
#   starts   a stage was started three times since its last beat, or ten times in all
#   hang     a stage has not beaten for longer than it was allowed to, in this boot; or no `apply`
#            has lived for half an hour: it alone could confirm the release, or take the next one
#   python   its Python does not start
# and the Python of the slot before does start: else nothing would be won.
#
# Going back, each step such that it may be done again after a power cut:
#   1 reason   2 link current   3 apply ends, for it may be on its way forward   4 the receive before
#   serves, that on trial drains   5 the other stages   6 apply, update   7 no trial any more
# Before a boot's first stage only the links are left to do (1, 2, 7).
#
# What stages write into STATE is not believed: a file that is no plain one counts as missing, and
# only its first bytes are read. At worst a stage has its own release left.

set -u
umask 022
LC_ALL=C
export LC_ALL

verb=${1:-watch}
root=${2:-/opt/scanside}
trusted=${3:-/var/lib/scanside-update}
control=${SCANSIDE_CONTROL:-}
most_starts=10
most_without_beat=3
longest=4096 # bytes of a stage's file
updater=1800 # seconds without a sign of `apply`, which may make a journal anew in one step
patience=30  # seconds that one unit may take before the next step is done all the same

say() { # its unit lets this reach the console too: nobody may be logged in
    printf 'scanside guard: %s\n' "$*" >&2
}

# --- units: systemd's, or the children of `scanside run` (appliance/update/units.py) ---

asked=''
count=0

ask() { # VERB STAGE SLOT: without waiting for the answer
    count=$((count + 1))
    id=$(printf 'guard-%s-%03d' "$$" "$count") # they are taken in the order of their names
    printf '%s\n' "$*" >"$control/.$id.tmp" || return 0
    mv -f "$control/.$id.tmp" "$control/$id.req"
    asked="$asked $id"
}

answered() { # wait for all that was asked
    left=$patience
    for id in $asked; do
        while [ ! -e "$control/$id.rep" ] && [ "$left" -gt 0 ]; do
            sleep 1
            left=$((left - 1))
        done
        rm -f "$control/$id.rep" "$control/$id.req"
    done
    asked=''
}

unit() { # STAGE SLOT -> its name
    case $1 in
    apply | update) printf 'scanside-%s.service' "$1" ;;
    *) printf 'scanside-%s@%s.service' "$1" "$2" ;;
    esac
}

of_systemd() { # words of systemctl; what fails is said, and the next step done all the same
    timeout "$patience" systemctl --no-ask-password "$@" || say "systemctl $* ended with $?"
}

start_and_wait() { # STAGE SLOT
    if [ -n "$control" ]; then
        ask start "$1" "$2"
        answered
    else
        of_systemd start -- "$(unit "$1" "$2")"
    fi
}

start_all() { # SLOT STAGE...
    number=$1
    shift
    for one; do
        if [ -n "$control" ]; then
            ask begin "$one" "$number"
        else
            of_systemd start --no-block -- "$(unit "$one" "$number")"
        fi
    done
    [ -z "$control" ] || answered
}

stop_all() { # SLOT STAGE...: at the same time, and waits
    number=$1
    shift
    names=''
    for one; do
        if [ -n "$control" ]; then
            ask stop "$one" "$number"
        else
            names="$names $(unit "$one" "$number")"
        fi
    done
    if [ -n "$control" ]; then
        answered
    elif [ -n "$names" ]; then
        # shellcheck disable=SC2086 - words
        of_systemd stop -- $names
    fi
}

let_drain() { # STAGE SLOT: told to end, and not waited for
    if [ -n "$control" ]; then
        ask stop "$1" "$2"
        asked=''
    else
        of_systemd stop --no-block -- "$(unit "$1" "$2")"
    fi
}

end_at_once() { # STAGE SLOT: it hangs, and would not listen
    if [ -n "$control" ]; then
        ask kill "$1" "$2"
        answered
    else
        of_systemd kill --kill-who=main --signal=SIGKILL -- "$(unit "$1" "$2")"
    fi
}

begin_again() { # STAGE: a plain unit, which runs from the link `current`
    if [ -n "$control" ]; then
        ask restart "$1" 0
        asked=''
    else
        of_systemd restart --no-block -- "$(unit "$1" 0)"
    fi
}

# --- what is there ---

is_number() {
    case $1 in
    '' | *[!0-9]* | ??????????*) return 1 ;;
    esac
}

starts_python() { # FOLDER
    timeout 20 "$1/bin/python" -I -S -c '' >/dev/null 2>&1
}

first_bytes() { # FILE that a stage wrote
    if [ -f "$1" ] && [ ! -L "$1" ]; then
        timeout 5 head -c "$longest" "$1" 2>/dev/null
    fi
}

read_trial() { # 0 where a release is on trial
    slot='' previous='' stages='' state=''
    [ -f "$trusted/trial" ] || return 1
    while IFS='=' read -r key value; do
        case $key in
        slot) slot=$value ;;
        previous) previous=$value ;;
        stages) stages=$value ;;
        state) state=$value ;;
        esac
    done <"$trusted/trial"
    if is_number "$slot" && is_number "$previous" && [ -n "$state" ]; then
        return 0
    fi
    say "$trusted/trial makes no sense"
    return 1
}

has_begun() { # whether going back from the slot on trial was begun: numbers are never used twice
    [ -f "$trusted/reason" ] || return 1
    read -r words <"$trusted/reason" || return 1
    case $words in
    "slot=$slot "*) return 0 ;;
    esac
    return 1
}

why_back() { # prints "stage=STAGE why=WHY" where the slot on trial is to be left
    if ! starts_python "$root/slots/$slot"; then
        printf 'stage=all why=python'
        return
    fi
    read -r up _ </proc/uptime
    up=${up%%.*}
    read -r boot </proc/sys/kernel/random/boot_id
    for stage in $stages; do
        all=$(first_bytes "$state/trial/$stage.starts" | grep -c -x "$slot")
        b_slot='' b_up='' b_allowed='' b_starts='' b_boot=''
        read -r b_slot b_up b_allowed b_starts b_boot _ <<BEAT
$(first_bytes "$state/trial/$stage.beat")
BEAT
        heard=0
        if [ "$b_slot" = "$slot" ] && is_number "$b_up" && is_number "$b_allowed" &&
            is_number "$b_starts"; then
            heard=$b_starts
        else
            b_boot=''
        fi
        if [ "$all" -ge "$most_starts" ] || [ $((all - heard)) -ge "$most_without_beat" ]; then
            printf 'stage=%s why=starts' "$stage"
            return
        fi
        # one that was started since has not hung: it begins
        if [ "$b_boot" = "$boot" ] && [ "$all" -eq "$heard" ] &&
            [ $((up - b_up)) -gt "$b_allowed" ]; then
            printf 'stage=%s why=hang' "$stage"
            return
        fi
    done
    a_up='' a_boot=''
    [ ! -f "$trusted/alive" ] || read -r a_up a_boot <"$trusted/alive"
    if [ "$a_boot" != "$boot" ] || ! is_number "$a_up"; then
        printf '%s %s\n' "$up" "$boot" >"$trusted/alive" # from now on, then
    elif [ $((up - a_up)) -gt "$updater" ]; then
        printf 'stage=apply why=hang'
    fi
}

# --- what is done ---

note_reason() {
    printf 'slot=%s %s\n' "$slot" "$1" >"$trusted/.reason.tmp" &&
        mv -f "$trusted/.reason.tmp" "$trusted/reason"
    sync
}

link_back() {
    rm -f "$root/.current.guard"
    ln -s "slots/$previous" "$root/.current.guard" &&
        mv -f -T "$root/.current.guard" "$root/current"
    sync
}

end_trial() {
    rm -f "$trusted/trial"
    sync
}

go_back() { # the reason is written
    read -r words <"$trusted/reason"
    say "goes back to slot $previous: $words"
    link_back
    end_at_once apply 0 # it bears that: it goes on as after a power cut
    stop_all 0 apply
    sick=${words#*stage=}
    sick=${sick%% *}
    others=''
    for one in $stages; do
        case $words in
        *why=hang) [ "$one" != "$sick" ] || end_at_once "$one" "$slot" ;;
        esac
        [ "$one" = receive ] || others="$others $one"
    done
    case " $stages " in
    *' receive '*)
        start_and_wait receive "$previous"
        let_drain receive "$slot"
        ;;
    esac
    # shellcheck disable=SC2086 - words
    stop_all "$slot" $others
    # shellcheck disable=SC2086 - words
    start_all "$previous" $others
    start_all 0 apply
    begin_again update
    end_trial
}

watch() {
    read_trial || return 0
    if ! has_begun; then
        why=$(why_back)
        [ -n "$why" ] || return 0
        if ! starts_python "$root/slots/$previous"; then
            say "slot $slot: $why; the Python of slot $previous does not start, so it stays"
            return 0
        fi
        note_reason "$why"
    fi
    go_back
}

boot() {
    if read_trial; then
        if ! has_begun && ! starts_python "$root/slots/$slot" &&
            starts_python "$root/slots/$previous"; then
            note_reason 'stage=all why=python'
        fi
        if has_begun; then
            say "goes back to slot $previous, as nothing has started yet"
            link_back
            end_trial
        fi
    fi
    starts_python "$root/current" && return 0
    number=$(current) || return 1
    say "the Python of slot $number does not start: the slot is made anew"
    if python3 -I -B "$root/guard/build.py" rebuild "$number" --root "$root"; then
        return 0
    fi
    say "slot $number cannot be made anew: no Python of this machine is in its range, or its" \
        "wheels are damaged. Install a Python that the release names, then restart."
    return 1
}

current() { # prints the number of the slot that runs
    number=$(readlink "$root/current") || number=''
    number=${number#slots/}
    if ! is_number "$number"; then
        say "$root/current leads to no slot: install the appliance again"
        return 1
    fi
    printf '%s' "$number"
}

case $verb in
watch) watch ;;
boot) boot ;;
start)
    number=$(current) || exit 1
    if [ $# -lt 3 ]; then
        say 'start wants ROOT, TRUSTED and the stages'
        exit 2
    fi
    shift 3
    start_all "$number" "$@"
    ;;
*)
    say "$verb is none of watch, boot, start"
    exit 2
    ;;
esac
