package seal_test

import (
	"testing"
	"time"

	"github.com/gatehouse-mesh/gatehouse/session/seal"
)

const delay = 5 * time.Minute

// aged is a key with a name of one digit, created so long before or after day.
func aged(name string, created time.Duration) seal.Key {
	k := seal.NewKey(day.Add(created))
	k.ID = "0000000" + name
	return k
}

// Whatever order the files are read in, replicas choose the same key.
func TestEqualCreationTimes(t *testing.T) {
	t.Parallel()
	a, b := aged("1", 0), aged("2", 0)
	for _, now := range []time.Duration{0, time.Hour} {
		clock := func() time.Time { return day.Add(now) }
		one, err := seal.NewRing([]seal.Key{a, b}, delay, clock)
		if err != nil {
			t.Fatal(err)
		}
		other, err := seal.NewRing([]seal.Key{b, a}, delay, clock)
		if err != nil {
			t.Fatal(err)
		}
		if one.Sealing() != other.Sealing() {
			t.Errorf("%v after their creation one replica seals with %s, another with %s", now, one.Sealing(), other.Sealing())
		}
	}
}
