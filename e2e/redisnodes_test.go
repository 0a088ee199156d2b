package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// masterName is what the Sentinels call the group.
const masterName = "sessions"

// sentinels are a master with two replicas, watched by three Sentinels.
type sentinels struct {
	nodes []*redis
	ports []int // of the Sentinels
}

func startSentinels(t testing.TB) *sentinels {
	t.Helper()
	s := &sentinels{}
	master := newRedis(t)
	for range 3 {
		r := newRedis(t)
		r.password = master.password
		r.lines = []string{"masterauth " + master.password, "repl-diskless-sync-delay 0"}
		if len(s.nodes) > 0 {
			r.lines = append(r.lines, fmt.Sprintf("replicaof 127.0.0.1 %d", s.nodes[0].port))
		}
		r.up(t)
		s.nodes = append(s.nodes, r)
	}
	for range 3 {
		s.ports = append(s.ports, s.sentinel(t))
	}
	eventually(t, 20*time.Second, func() error { return s.settled(2) })
	return s
}

// sentinel starts one Sentinel and returns its port.
func (s *sentinels) sentinel(t testing.TB) int {
	t.Helper()
	port, first := freePort(t), s.nodes[0]
	dir, err := os.MkdirTemp(run.dir, "sentinel-")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "sentinel.conf")
	conf := fmt.Sprintf(`port %[1]d
bind 127.0.0.1
dir %[2]s
sentinel monitor %[3]s 127.0.0.1 %[4]d 2
sentinel auth-pass %[3]s %[5]s
sentinel down-after-milliseconds %[3]s 1000
sentinel failover-timeout %[3]s 5000
`, port, dir, masterName, first.port, first.password)
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, launch{name: "sentinel", path: first.path, args: []string{file, "--sentinel"}})
	return port
}

// ask sends a command to the Sentinel at port.
func (s *sentinels) ask(port int, args ...string) ([]string, error) {
	return (&redis{port: port}).try(args...)
}

// settled is nil when every Sentinel knows the two others and this many replicas that
// follow a living master.
func (s *sentinels) settled(replicas int) error {
	for _, port := range s.ports {
		out, err := s.ask(port, "SENTINEL", "MASTER", masterName)
		if err != nil {
			return err
		}
		field := func(name string) string {
			if i := slices.Index(out, name); i >= 0 && i+1 < len(out) {
				return out[i+1]
			}
			return ""
		}
		if field("num-other-sentinels") != "2" || field("num-slaves") != strconv.Itoa(replicas) || field("flags") != "master" {
			return fmt.Errorf("sentinel %d: %s other sentinels, %s replicas, %s", port, field("num-other-sentinels"), field("num-slaves"), field("flags"))
		}
	}
	for _, r := range s.nodes {
		if out, err := r.try("INFO", "replication"); err != nil {
			return err
		} else if info := out[0]; strings.Contains(info, "role:slave") && !strings.Contains(info, "master_link_status:up") {
			return fmt.Errorf("redis %d does not follow yet", r.port)
		}
	}
	return nil
}

// master is the node that the Sentinels name.
func (s *sentinels) master(t testing.TB) *redis {
	t.Helper()
	for _, port := range s.ports {
		out, err := s.ask(port, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", masterName)
		if err != nil || len(out) != 2 {
			continue
		}
		for _, r := range s.nodes {
			if strconv.Itoa(r.port) == out[1] {
				return r
			}
		}
	}
	t.Fatal("no Sentinel names a master")
	return nil
}

// failover moves the master on purpose and returns as soon as another one is named.
func (s *sentinels) failover(t testing.TB) {
	t.Helper()
	old := s.master(t)
	eventually(t, 10*time.Second, func() error { _, err := s.ask(s.ports[0], "SENTINEL", "FAILOVER", masterName); return err })
	eventually(t, 20*time.Second, func() error {
		if now := s.master(t); now == old {
			return fmt.Errorf("redis %d is still the master", old.port)
		}
		return nil
	})
}

// startCluster starts three masters that share the slots.
func startCluster(t testing.TB) []*redis {
	t.Helper()
	var nodes []*redis
	bus := map[*redis]int{} // ports; the usual one, 10,000 above, may be beyond 65535
	for i := range 3 {
		r := newRedis(t)
		if i > 0 {
			r.password = nodes[0].password
		}
		bus[r] = freePort(t)
		r.lines = []string{
			"cluster-enabled yes", "cluster-config-file nodes.conf", "cluster-node-timeout 2000", "masterauth " + r.password,
			fmt.Sprintf("cluster-port %d", bus[r]),
		}
		r.up(t)
		nodes = append(nodes, r)
	}
	for i, slots := range [][2]string{{"0", "5460"}, {"5461", "10922"}, {"10923", "16383"}} {
		nodes[i].do(t, "CLUSTER", "ADDSLOTSRANGE", slots[0], slots[1])
		nodes[i].do(t, "CLUSTER", "SET-CONFIG-EPOCH", strconv.Itoa(i+1))
	}
	for _, r := range nodes[1:] {
		nodes[0].do(t, "CLUSTER", "MEET", "127.0.0.1", strconv.Itoa(r.port), strconv.Itoa(bus[r]))
	}
	eventually(t, 20*time.Second, func() error {
		for _, r := range nodes {
			if out, err := r.try("CLUSTER", "INFO"); err != nil || !strings.Contains(out[0], "cluster_state:ok") || !strings.Contains(out[0], "cluster_known_nodes:3") {
				return fmt.Errorf("redis %d is not in the cluster: %v", r.port, err)
			}
		}
		return nil
	})
	return nodes
}

// Sentinels move the master on purpose and when it dies, and what was written stays.
func TestSentinelHarness(t *testing.T) {
	t.Parallel()
	s := startSentinels(t)
	first := s.master(t)
	first.do(t, "SET", "a", "1")
	first.do(t, "WAIT", "2", "1000")
	s.failover(t)
	second := s.master(t)
	if got := second.do(t, "GET", "a"); second == first || got[0] != "1" {
		t.Errorf("after a failover: master %d was %d, a = %q", second.port, first.port, got)
	}
	eventually(t, 20*time.Second, func() error { return s.settled(2) })
	second.down()
	eventually(t, 30*time.Second, func() error {
		if r := s.master(t); r == second {
			return fmt.Errorf("the dead redis %d is still named", r.port)
		}
		_, err := s.master(t).try("SET", "b", "2")
		return err
	})
	if got := s.master(t).do(t, "GET", "a"); got[0] != "1" {
		t.Errorf("after a death: a = %q", got)
	}
}

// A cluster answers for its own slots and sends away for others.
func TestClusterHarness(t *testing.T) {
	t.Parallel()
	moved := 0
	for _, r := range startCluster(t) {
		if _, err := r.try("SET", "a", "1"); err != nil && strings.HasPrefix(err.Error(), "MOVED ") {
			moved++
		} else if err != nil {
			t.Error(err)
		}
	}
	if moved != 2 {
		t.Errorf("%d of three nodes sent the key away, want 2", moved)
	}
}
