package doctor

import (
	"net/http"
	"sync/atomic"
	"time"

	"wxproxy/config"
	"wxproxy/internal/words"
	"wxproxy/store"
)

// Options of New.
type Options struct {
	Config    *config.Config // nil when it cannot be loaded
	ConfigErr error          // why
	Start     error          // what serve would refuse beside the files of the configuration
	Learns    bool           // whether accounts are learned
	Version   string         // of this program

	Admin Admin
	// Client returns a client for a listen address, and the URL to begin with.
	Client func(listen string) (*http.Client, string)

	Store store.Options
	// User is the user of Redis that store.url names, default when it names none, and ACL the command that makes it.
	User, ACL string

	Log    string // an access log to read in place of the configured one; "" is the configured one
	All    bool   // fetch a token for each account, not only for the first of them
	Fetch  bool   // fetch a token also where that invalidates the one in use
	Getenv func(string) string

	Cgroups string // the folder of the machine's cgroups; default /sys/fs/cgroup
}

// Admin is how the gateway's operators' listener is asked.
type Admin struct {
	Address string // as admin.listen has it
	Token   string
	Err     error // why there is no address, or no token; nil when there are both
}

// doctor makes the checks. What one check has found and another one uses is in the atomic pointers: a check that
// was left behind may still run.
type doctor struct {
	Options

	gateway  atomic.Pointer[gatewayState]
	network  atomic.Pointer[networkState]
	accounts atomic.Pointer[tokenState]
}

// How long the tokens of the first accounts may take, and those of all.
const (
	tokensLimit    = 12 * time.Second
	allTokensLimit = 10 * time.Minute
)

// Checks returns all checks, in the order in which they are reported. They share nothing with those of another call.
func Checks(o Options) []Check {
	d := &doctor{Options: o}
	tokens := tokensLimit
	if o.All {
		tokens = allTokensLimit
	}
	checks := []Check{
		{Name: "configuration", Subject: words.DoctorConfiguration, Limit: 5 * time.Second, Look: d.lookAtConfiguration},
		{Name: "gateway", Subject: words.DoctorGateway, Limit: 6 * time.Second, Look: d.lookAtGateway},
		{Name: "store", Subject: words.DoctorStore, After: []string{"gateway"}, Limit: 8 * time.Second, Look: d.lookAtStore},
		{Name: "network", Subject: words.DoctorNetwork, Limit: 8 * time.Second, Look: d.lookAtNetwork},
		{Name: "tokens", Subject: words.DoctorTokens, After: []string{"gateway", "network"}, Limit: tokens, Look: d.lookAtTokens},
		{Name: "address", Subject: words.DoctorAddress, After: []string{"tokens"}, Limit: 6 * time.Second, Look: d.lookAtAddress},
		{Name: "log", Subject: words.DoctorLog, Limit: 8 * time.Second, Look: d.lookAtLog},
		{Name: "machine", Subject: words.DoctorMachine, After: []string{"gateway"}, Limit: 5 * time.Second, Look: d.lookAtMachine},
		{Name: "exposure", Subject: words.DoctorExposure, Limit: 5 * time.Second, Look: d.lookAtExposure},
	}
	for i := range checks {
		if checks[i].Name != "configuration" && checks[i].Name != "gateway" && o.Config == nil {
			checks[i].Look = needsConfiguration
		}
	}
	return checks
}
