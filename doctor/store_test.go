package doctor

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"wxproxy/internal/redistest"
	"wxproxy/internal/words"
	"wxproxy/store"
)

// storing returns a doctor for a store.url.
func storing(t *testing.T, url string) *doctor {
	t.Helper()
	d := &doctor{Options: load(t, fmt.Sprintf("store: {url: %q}\n", url))}
	if d.ConfigErr != nil {
		t.Fatal(d.ConfigErr)
	}
	d.ACL = strings.ReplaceAll(store.ACL, "PASSWORD", "PASSWORD")
	return d
}

func TestRedis(t *testing.T) {
	fine := redistest.Start(t, "--appendonly", "yes")
	if got := lines(words.English, storing(t, fine.URL()).lookAtStore(t.Context())); !strings.HasPrefix(got, "ok: "+fine.Addr+": Redis ") || !strings.Contains(got, ", round trip ") {
		t.Errorf("got %s", got)
	}
	if keys, err := fine.Client(t).Keys(t.Context(), "*").Result(); err != nil || len(keys) > 0 {
		t.Errorf("%v keys are left, %v", keys, err)
	}
	for _, tt := range []struct {
		name   string
		args   []string
		en, zh string
	}{
		{
			"policy",
			[]string{"--appendonly", "yes", "--maxmemory-policy", "allkeys-lru"},
			"warning: ADDR: maxmemory-policy is allkeys-lru, which throws counts and tokens away when memory is short\n-> run CONFIG SET maxmemory-policy noeviction, and write maxmemory-policy noeviction into redis.conf\n",
			"warning: ADDR：maxmemory-policy 是 allkeys-lru，内存不足时会丢掉计数和 token\n-> 执行 CONFIG SET maxmemory-policy noeviction，并在 redis.conf 里写 maxmemory-policy noeviction\n",
		},
		{
			"no AOF", nil,
			"warning: ADDR: appendonly is off, so a restart of Redis loses counts and tokens since its last snapshot\n-> run CONFIG SET appendonly yes, and write appendonly yes into redis.conf\n",
			"warning: ADDR：appendonly 没有打开，Redis 重启会丢掉上次快照之后的计数和 token\n-> 执行 CONFIG SET appendonly yes，并在 redis.conf 里写 appendonly yes\n",
		},
		{
			"no fsync",
			[]string{"--appendonly", "yes", "--appendfsync", "no"},
			"note: ADDR: appendfsync is no, so a crash of its machine may lose half a minute\n-> run CONFIG SET appendfsync everysec, and write appendfsync everysec into redis.conf\n", "",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := redistest.Start(t, tt.args...)
			at := func(text string) string { return strings.ReplaceAll(text, "ADDR", s.Addr) }
			wantLines(t, storing(t, s.URL()).lookAtStore(t.Context()), at(tt.en), at(tt.zh))
		})
	}
}

func TestRedisMemory(t *testing.T) {
	for _, tt := range []struct {
		used, most string
		want       string
	}{
		{"1048576", "0", ""},
		{"1048576", "104857600", ""},
		{"94371840", "104857600", "warning: r:1 uses 90 MiB of maxmemory 100 MiB; when it is full, counts are refused\n-> raise maxmemory, or move other data to another Redis\n"},
		{"104857600", "104857600", "fault: r:1 uses 100 MiB of maxmemory 100 MiB; when it is full, counts are refused\n-> raise maxmemory, or move other data to another Redis\n"},
	} {
		wantLines(t, lookAtMemory("r:1", map[string]string{"used_memory": tt.used, "maxmemory": tt.most, "maxmemory_policy": "noeviction"}), tt.want, "")
	}
}

// What a user may not run is named, with the command that lets it.
func TestRedisUser(t *testing.T) {
	s := redistest.Start(t, "--appendonly", "yes")
	c := s.Client(t)
	setUser := func(more ...any) {
		t.Helper()
		args := append([]any{"ACL", "SETUSER", "crm", "reset", "on", ">topsecret", "~wxp:*", "+@all"}, more...)
		if err := c.Do(t.Context(), args...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	d := storing(t, "redis://crm:topsecret@"+s.Addr+"/0")
	d.User = "crm"
	setUser("-hset", "-zadd")
	wantLines(t, d.lookAtStore(t.Context()),
		"fault: Redis does not let the user crm run hset, zadd on the keys of store.prefix\n-> run: ACL SETUSER crm ~wxp:* +hset +zadd\n",
		"fault: Redis 不让用户 crm 对 store.prefix 的键执行 hset, zadd\n-> 执行：ACL SETUSER crm ~wxp:* +hset +zadd\n")
	if err := c.Do(t.Context(), "ACL", "SETUSER", "crm", "~wxp:*", "+hset", "+zadd").Err(); err != nil {
		t.Fatal(err)
	}
	if got := lines(words.English, d.lookAtStore(t.Context())); !strings.HasPrefix(got, "ok: ") {
		t.Errorf("after the mend: %s", got)
	}
	setUser("-eval")
	got := lines(words.English, d.lookAtStore(t.Context()))
	if !strings.Contains(got, "NOPERM") || !strings.Contains(got, "-> run: ACL SETUSER wxproxy reset on >PASSWORD ~wxp:* +ping") || strings.Contains(got, "topsecret") {
		t.Errorf("without eval: %s", got)
	}
	setUser("-info")
	got = lines(words.English, d.lookAtStore(t.Context()))
	if want := "warning: " + s.Addr + ": INFO is not allowed, so its version, memory and persistence are not known\n-> allow it to the user: +info\n"; got != want {
		t.Errorf("without info: %s", got)
	}
	wrong := storing(t, "redis://crm:wrong@"+s.Addr+"/0")
	got = lines(words.English, wrong.lookAtStore(t.Context()))
	if !strings.HasPrefix(got, "fault: store redis://"+s.Addr+": WRONGPASS") || !strings.HasSuffix(got, "-> correct user and password in store.url or store.password_file\n") {
		t.Errorf("with a wrong password: %s", got)
	}
}

// A Redis whose clock is off ends a day at another time.
func TestRedisClock(t *testing.T) {
	s := redistest.StartMovable(t, "--appendonly", "yes")
	d := storing(t, s.URL())
	for _, tt := range []struct {
		ahead  time.Duration
		en, zh string
	}{
		{20 * time.Second, "note: the clock of ADDR is 20s ahead of this machine's; it decides when a day ends\n-> synchronise", "note: ADDR 的时钟比本机快 20s；一天何时结束以它为准\n-> 用 NTP"},
		{-10 * time.Minute, "warning: the clock of ADDR is 10m0s behind this machine's; it decides when a day ends\n-> synchronise", "warning: ADDR 的时钟比本机慢 10m0s；一天何时结束以它为准\n-> 用 NTP"},
	} {
		s.Move(tt.ahead)
		findings := d.lookAtStore(t.Context())
		for l, want := range map[words.Language]string{words.English: tt.en, words.Chinese: tt.zh} {
			if got, want := lines(l, findings), strings.ReplaceAll(want, "ADDR", s.Addr); !strings.HasPrefix(got, want) {
				t.Errorf("%s: got %s, want %s", tt.ahead, got, want)
			}
		}
	}
}

func TestRedisAbsent(t *testing.T) {
	s := redistest.Start(t)
	s.Stop()
	got := lines(words.English, storing(t, s.URL()).lookAtStore(t.Context()))
	if !strings.HasPrefix(got, "fault: store redis://"+s.Addr+": cannot be reached: ") || !strings.HasSuffix(got, "-> see that redis-server runs, that its bind and port fit store.url, and that no firewall is between\n") {
		t.Errorf("got %s", got)
	}
	s.Restart()
	s.Freeze()
	defer s.Thaw()
	began := time.Now()
	if got := lines(words.English, storing(t, s.URL()).lookAtStore(t.Context())); !strings.HasPrefix(got, "fault: ") {
		t.Errorf("frozen: %s", got)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("a frozen Redis took %s", took)
	}
}

func TestRedisCluster(t *testing.T) {
	t.Parallel()
	nodes := redistest.StartCluster(t)
	one := storing(t, nodes[0].URL())
	if got := lines(words.English, one.lookAtStore(t.Context())); !strings.HasPrefix(got, "fault: ") || !strings.Contains(got, "write redis+cluster://HOST1,HOST2") {
		t.Errorf("got %s", got)
	}
	all := storing(t, "redis+cluster://"+nodes[0].Addr+","+nodes[1].Addr)
	findings := all.lookAtStore(t.Context())
	if got := lines(words.English, findings); len(findings) != 3 || strings.Count(got, "appendonly is off") != 3 {
		t.Errorf("got %s, want a finding of each master", got)
	}
}

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "wxproxy.db")
	if findings := storeDisk(path); len(findings) > 0 {
		t.Skipf("NOT TESTED: the folder of temporary files is no place for a store: %s", lines(words.English, findings))
	}
	d := storing(t, "file:"+path)
	d.Admin.Address = "127.0.0.1:8081"
	wantLines(t, d.lookAtStore(t.Context()), "ok: "+path+" is not there yet; the gateway will make it\n", "")
	if _, err := os.Stat(path); err == nil {
		t.Error("the file was made")
	}
	s, err := store.Open(t.Context(), d.Store)
	if err != nil {
		t.Fatal(err)
	}
	wantLines(t, d.lookAtStore(t.Context()),
		"warning: "+path+" is open in another process, and no gateway answers at 127.0.0.1:8081\n-> a gateway with another configuration has it: give each its own file, or use Redis for several\n",
		"warning: "+path+" 被另一个进程打开着，而 127.0.0.1:8081 没有网关应答\n-> 另一份配置的网关在用它：每个网关用单独的文件，多个网关请用 Redis\n")
	d.gateway.Store(&gatewayState{store: "ok"})
	if got := lines(words.English, d.lookAtStore(t.Context())); !strings.HasPrefix(got, "ok: "+path+", ") || !strings.HasSuffix(got, ": the running gateway has it open, so that was asked instead: ok\n") {
		t.Errorf("got %s", got)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got := lines(words.English, d.lookAtStore(t.Context())); !strings.HasPrefix(got, "warning: a gateway is running, and it does not have "+path+" open\n") {
		t.Errorf("got %s", got)
	}
	d.gateway.Store(nil)
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	wantLines(t, d.lookAtStore(t.Context()),
		"warning: "+path+" has mode -rw-r--r--: others on this machine can read the tokens in it\n-> run: chmod 600 "+path+"\n",
		"warning: "+path+" 的权限是 -rw-r--r--：本机其他用户能读到里面的 token\n-> 执行：chmod 600 "+path+"\n")
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.Repeat("no store of ours ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := lines(words.English, d.lookAtStore(t.Context())); !strings.HasPrefix(got, "fault: store file "+path+": ") || strings.Contains(got, "->") {
		t.Errorf("damaged: %s", got)
	}
	under := storing(t, "file:"+path+"/x.db")
	if got := lines(words.English, under.lookAtStore(t.Context())); !strings.HasPrefix(got, "fault: store file "+path+"/x.db: not a directory\n-> have the gateway's user own") {
		t.Errorf("unwritable: %s", got)
	}
}
