#!/bin/sh
# Deploys a release through a server, and says what became of it: deploy.sh RELEASE
# Ends with the status of prunner: 0 live, 1 failed, 3 refused, 4 canceled or replaced, 5 no server, 124 too late.
set -eu

prunner=${PRUNNER:-prunner}
if [ $# -ne 1 ]; then
	echo "usage: deploy.sh RELEASE" >&2
	exit 2
fi
release=$1

# Here and now: what is wrong already needs no server to find out.
"$prunner" run verify --quiet

# Standard output is the id alone, also where the job fails.
status=0
job=$("$prunner" schedule deploy --var release="$release" --wait --timeout "${TIMEOUT:-15m}") || status=$?

case $status in
0) "$prunner" logs "$job" switch ;;
1)
	echo "release $release failed; what its failed tasks say:" >&2
	"$prunner" logs --quiet "$job" >&2
	;;
3) echo "release $release was refused" >&2 ;;
4) echo "release $release was canceled, or a newer one took its place" >&2 ;;
5) echo "the server can't be reached; \`make local RELEASE=$release\` deploys without one" >&2 ;;
124)
	echo "release $release takes too long; it is canceled" >&2
	"$prunner" cancel "$job"
	;;
130) echo "nobody waits any more; the job goes on: $prunner wait $job" >&2 ;;
esac
exit "$status"
