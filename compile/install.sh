#!/bin/sh
# Installs Scanside on this machine from the archive in which this file lies. It uses no network, and
# may be run again: what is done is not done twice, and nothing of yours is overwritten.
#
#   sudo ./install.sh               install; on a Jetson: sudo jetson/install.sh
#   ./install.sh --check            look whether all that is needed is there; change nothing
#   sudo ./install.sh --uninstall   remove the programs and services; settings and data stay
#
# What goes where:
#   /opt/scanside            slots/1 (the programs), the link current, wheels/, guard/
#   /etc/scanside            scanside.toml, made once
#   /etc/systemd/system      the units, enabled; /usr/local/bin/scanside
#   /var/lib/scanside*       images, reports, what is trusted
set -eu
cd "$(dirname "$0")"
here=$(pwd)
root=/opt/scanside
trusted=/var/lib/scanside-update
state=/var/lib/scanside
. ./facts.sh # kind, version, machine, python_from, python_below, needs_mb, sets by `compile installer`

say() { printf '%s\n' "$*"; }
stop() { # what is wrong, and what to do
	printf 'install.sh: %s\n' "$1" >&2
	printf '  remedy: %s\n' "$2" >&2
	exit 1
}
wrong=0
fault() { # the same, while --check goes on
	printf 'missing   %s\n          %s\n' "$1" "$2"
	wrong=1
}
fine() { printf 'ok        %s\n' "$*"; }

find_python() { # the newest Python of the range, with what the standard library must bring
	python=
	for one in python3.14 python3.13 python3.12 python3.11 python3.10 python3; do
		command -v "$one" >/dev/null 2>&1 || continue
		"$one" - "$python_from" "$python_below" <<-'END' 2>/dev/null || continue
			import sys
			at, below = (tuple(map(int, one.split("."))) for one in sys.argv[1:])
			import ctypes, hashlib, sqlite3, ssl, venv
			sys.exit(not at <= sys.version_info[:2] < below)
		END
		python=$(command -v "$one")
		return
	done
}

check() {
	if [ "$(uname -m)" = "$machine" ]; then fine "machine $machine"; else
		fault "this archive is for $machine, and this machine is $(uname -m)" \
			"Fetch the archive for this kind of device."
	fi
	find_python
	if [ -n "$python" ]; then fine "Python $($python -c 'import platform; print(platform.python_version())')"; else
		fault "no whole Python from $python_from, below $python_below" \
			"sudo apt-get install -y python3"
	fi
	libc=$(getconf GNU_LIBC_VERSION 2>/dev/null | cut -d' ' -f2) || libc=
	if [ -n "$libc" ] && [ "$(printf '%s\n2.35\n' "$libc" | sort -V | head -n 1)" = 2.35 ]; then
		fine "glibc $libc"
	else
		fault "glibc is ${libc:-unknown}, and 2.35 is needed" \
			"Use Debian 12, Ubuntu 22.04, JetPack 6 or newer."
	fi
	for one in systemctl:systemd systemd-sysusers:systemd systemd-tmpfiles:systemd \
		sha256sum:coreutils tar:tar; do
		if command -v "${one%%:*}" >/dev/null 2>&1; then fine "${one%%:*}"; else
			fault "${one%%:*}" "sudo apt-get install -y ${one##*:}"
		fi
	done
	folder=/opt
	[ -d $folder ] || folder=/
	free=$(df -Pm $folder | awk 'NR == 2 { print $4 }')
	if [ -e $root/slots/1/complete ] || [ "$free" -ge "$needs_mb" ]; then
		fine "disk: $free MB are free in $folder"
	else
		fault "$needs_mb MB are needed in $folder, and $free are free" "Free some space."
	fi
	if sha256sum --quiet -c SHA256SUMS >/dev/null 2>&1; then fine "files of this archive"; else
		fault "a file of this archive is missing or damaged" \
			"Copy the archive again, and unpack it into a new folder."
	fi
	if [ -e root/1.root.json ]; then fine "root of trust"; else
		say "note      this archive holds no root of trust: this box takes no releases"
	fi
	return $wrong
}

put() { # FILE TARGET MODE: whole or not at all
	mkdir -p "$(dirname "$2")"
	cmp -s "$1" "$2" && return
	cp "$1" "$2.new"
	chmod "$3" "$2.new"
	sync "$2.new"
	mv -f "$2.new" "$2"
}

install_all() {
	[ "$(id -u)" = 0 ] || stop "only root can install" "Type: sudo ./install.sh"
	check || stop "something is missing, see above" "Bring what is named there, then type the same again."
	for one in sysusers/*.conf; do put "$one" "/etc/sysusers.d/${one##*/}" 644; done
	for one in tmpfiles/*.conf; do put "$one" "/etc/tmpfiles.d/${one##*/}" 644; done
	systemd-sysusers /etc/sysusers.d/scanside*.conf
	systemd-tmpfiles --create /etc/tmpfiles.d/scanside*.conf

	for one in guard.sh build.py; do put "guard/$one" "$root/guard/$one" 755; done
	if [ -e $root/current ]; then
		say "$root/current is there: another version comes as a release (scanside update check)"
	else
		say "making slot 1: $version, about a minute"
		for one in wheels/*.whl wheels/*.tar.gz; do
			if [ -e "$one" ]; then put "$one" "$root/$one" 644; fi
		done
		put wheels/1.json $root/wheels/1.json 644
		"$python" -I -B $root/guard/build.py rebuild 1 ||
			stop "slot 1 cannot be made" "See the line above; then type the same again."
		ln -s slots/1 $root/current.new
		sync $root
		mv -fT $root/current.new $root/current
		sync $root
	fi
	if [ "$(readlink /usr/local/bin/scanside)" != $root/current/bin/scanside ]; then
		ln -sfn $root/current/bin/scanside /usr/local/bin/scanside
	fi

	if [ -e root/1.root.json ]; then
		if [ -e $trusted/1.root.json ] && ! cmp -s root/1.root.json $trusted/1.root.json; then
			stop "$trusted/1.root.json is another root of trust" \
				"Ask the fleet team which of both is theirs; nothing was changed there."
		fi
		put root/1.root.json $trusted/1.root.json 644
	fi
	for one in keys/*.pub; do
		[ -e "$one" ] || continue
		install -d -o scanside -g scanside -m 700 $state/trust
		put "$one" "$state/trust/${one##*/}" 644
		chown scanside:scanside "$state/trust/${one##*/}"
	done

	if [ ! -e /etc/scanside/scanside.toml ]; then
		mkdir -p /etc/scanside
		printf '# Every key: docs/install.md. A scanner may send once [[dicom.allow]] names it.\n\n[update]\nroot = "%s"\n' \
			$root >/etc/scanside/scanside.toml.new
		sync /etc/scanside/scanside.toml.new
		mv /etc/scanside/scanside.toml.new /etc/scanside/scanside.toml
	fi

	for one in units/*; do
		if [ -f "$one" ]; then put "$one" "/etc/systemd/system/${one##*/}" 644; fi
	done
	if [ -n "${SCANSIDE_GPU:-}" ]; then
		for one in units/gpu/*/*; do
			put "$one" "/etc/systemd/system/${one#units/gpu/}" 644
		done
	fi
	if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
	enabled=
	for one in units/*; do
		case $one in *@.*) continue ;; esac
		if [ -f "$one" ] && grep -q '^\[Install\]' "$one"; then enabled="$enabled ${one##*/}"; fi
	done
	# shellcheck disable=SC2086 # names of our units
	systemctl enable $enabled
	say "installed $version."
	say "next: sudo scanside enroll FILE      with the file that the fleet team made for this box,"
	say "      or write /etc/scanside/scanside.toml yourself"
	say "then: sudo systemctl start scanside.target && sudo -u scanside scanside doctor"
}

uninstall() {
	[ "$(id -u)" = 0 ] || stop "only root can uninstall" "Type: sudo ./install.sh --uninstall"
	units=
	for one in units/*; do
		if [ -f "$one" ]; then units="$units ${one##*/}"; fi
	done
	if [ -d /run/systemd/system ]; then
		systemctl stop scanside.target 'scanside-*' || true
	fi
	for one in $units; do
		case $one in *@.*) ;; *) systemctl disable "$one" 2>/dev/null || true ;; esac
		rm -f "/etc/systemd/system/$one"
	done
	rm -rf /etc/systemd/system/scanside-work*.service.d
	if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
	rm -f /usr/local/bin/scanside /etc/sysusers.d/scanside*.conf /etc/tmpfiles.d/scanside*.conf
	rm -rf $root
	say "removed: $root, the units. Left where they are, with images, reports and keys:"
	for one in /etc/scanside /var/lib/scanside*; do
		if [ -e "$one" ]; then say "  $one"; fi
	done
	say "Users and groups scanside stay, because these files are theirs."
}

case ${1:-} in
--check) check || exit 1 ;;
--uninstall) uninstall ;;
"") install_all ;;
*) stop "unknown: $1" "See the first lines of $here/install.sh" ;;
esac
