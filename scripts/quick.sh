#!/bin/sh
# What of make test can be told within 90 s. It installs nothing, and says what it left out.
set -eu
cd "$(dirname "$0")/.."

# Tests of many seconds: of the built program under load, at its deadlines, in a browser and with SDKs.
slow='TestExactlyTheQuotaIsExecuted TestTheCountGoesOnAfterRestartAndKill TestMidnightStartsAnew TestLargeMediaBothWays
TestUnsolicitedAnswer TestCommandsQuoteNoAnswer TestConfirmation TestTheAccessLogStopsNoCall TestAStalledHandshakeIsCut
TestAClientThatReadsNothingIsCut TestADeadTokenIsRenewedOnceForAllGateways TestPlacedAtNoon TestClearsUnderLoad
TestSDKsThroughTheGateway TestSDKsWithoutAGateway TestAPageInABrowserIsNotAllowed TestAPageAndTheAdminListener
TestReloadNeverOpensOrEmpties TestReloadWaitsForTheRest
TestJavaDoesNotRepeat TestTokenBodies TestWindowsWhereClocksChange TestExpiredWindowsAreDropped
TestNumbersAgree TestDailyQuestions TestQuestionsOfStatus TestQuestionsOfAServiceAndOfNow TestHistoryAfterAKill
TestForgetHistory TestAlertOnceByTwoGateways TestAlertsOfOneGateway TestAlertsOfForecastAndCallers TestAlertsOfALoop
TestDoctorFindsNothing TestDoctorAsksTheGateway TestDoctorReadsTheLog TestDoctorEnds TestFuseRefusesALoop
TestMetricsAlertsAndDashboard TestReportOfRealTraffic TestTailClientsThatDoNotRead TestTailEndsAtShutdown TestPages
TestAlertsShown TestAlertsOfDriftAndLatch TestAlertOfATokenThatEnds TestListBounded TestMalformedAnswers TestMalformedTokenAnswers
TestSDKPaths TestDamagedFiles TestSmallPostLargeAnswer TestLearningIsBounded TestTorture TestNotifyNeverBlocks TestKilled TestDemo TestDemoOnATerminal
TestListWithoutStore TestSilencedWithoutStore TestTooManyGroups TestMediaInMemory TestNothingIsTriedTwice'
packages='internal/faults'

for name in $slow; do
    grep -rqs --include='*_test.go' "func $name(" . || { echo "quick: no test is called $name any more: mend scripts/quick.sh" >&2; exit 1; }
done
skip=$(echo $slow | tr ' ' '|')
list="./cmd/wxproxy $(go list ./... | grep -vE "/($(echo $packages cmd/wxproxy | tr ' ' '|'))\$")" # the longest first

log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
# shellcheck disable=SC2086 # a list of packages
WXPROXY_MODEL_CASES=${WXPROXY_MODEL_CASES:-250} go test -p 4 -parallel 4 -short -v -skip "^($skip)\$" $list >"$log" 2>&1 || status=$?
if [ "$status" = 0 ]; then
    grep '^ok ' "$log"
else
    grep -vE '^(=== |\? |ok )|^ *--- (PASS|SKIP)' "$log"
fi
echo
echo 'quick: left out, and in make test:'
echo '  the race detector, golangci-lint, 450 of 500 cases of the model of the counters'
for package in $packages; do echo "  package $package"; done
for name in $slow; do echo "  $name"; done
sed -n 's/^--- SKIP: \([^ ]*\).*/  \1, which found something missing here or is slow/p' "$log"
exit "$status"
