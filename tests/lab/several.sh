#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# several.sh SCRIPT...: scripts from beside it, one after the other in one boot. Each leaves the host as it was. With
# options of its own a script is one word: 'guard.sh --hooks=no'.

cd "${BASH_SOURCE[0]%/*}" || exit
status=0
for script; do
	echo "== $script"
	read -ra words <<<"$script"
	"./${words[0]}" "${words[@]:1}" || status=1
done
exit $status
