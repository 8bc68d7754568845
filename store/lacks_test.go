package store_test

import (
	"strings"
	"testing"

	"wxproxy/internal/redistest"
	"wxproxy/store"
)

// TestLacks: what validate --connect says of a Redis, and that it leaves nothing there.
func TestLacks(t *testing.T) {
	const aof = "store: appendonly is off: "
	for _, tt := range []struct {
		name, acl, appendonly string
		want                  []string // beginnings
	}{
		{"all there", store.ACL, "yes", nil},
		{"no persistence", store.ACL, "no", []string{aof}},
		{"some rights", strings.NewReplacer("+del", "", "+zcard", "").Replace(store.ACL), "yes", []string{"store: its user may not run del, zcard on keys of this prefix: "}},
		{"rights of its own", store.ACL + " -hset -expire", "no", []string{aof, "store: its user may not run expire, hset on keys"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := redistest.Start(t)
			admin := server.Client(t)
			var args []any
			for arg := range strings.FieldsSeq(strings.Replace(tt.acl, "PASSWORD", "hunter2", 1)) {
				args = append(args, arg)
			}
			if err := admin.Do(t.Context(), args...).Err(); err != nil {
				t.Fatal(err)
			}
			if err := admin.ConfigSet(t.Context(), "appendonly", tt.appendonly).Err(); err != nil {
				t.Fatal(err)
			}
			s := open(t, store.Options{URL: "redis://wxproxy@" + server.Addr, Password: "hunter2"})
			got, err := s.Lacks(t.Context())
			if err != nil || len(got) != len(tt.want) {
				t.Fatalf("Lacks = %q, %v, want %q", got, err, tt.want)
			}
			for i, want := range tt.want {
				if !strings.HasPrefix(got[i], want) {
					t.Errorf("Lacks = %q, want %q", got[i], want)
				}
			}
			if tt.acl != store.ACL {
				return // without the right to delete
			}
			if keys, err := admin.Keys(t.Context(), "*").Result(); err != nil || len(keys) > 0 {
				t.Errorf("left behind: %q, %v", keys, err)
			}
		})
	}
}
