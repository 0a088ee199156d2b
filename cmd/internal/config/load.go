package config

import (
	_ "embed"
	"os"
	"path/filepath"
	"reflect"

	"github.com/goccy/go-yaml/token"
)

//go:embed schema.json
var schema []byte

// Schema returns the JSON schema of the configuration file (draft 2020-12), for editors.
func Schema() []byte { return schema }

// places is where the values of the file stood, by their key.
type places map[string]token.Position

// Load reads and checks the file. It reads no other file, so it needs no
// secret; see (*Config).Files. The error is a Mistakes, or an error of the file
// system.
func Load(file string) (*Config, error) {
	data, err := os.ReadFile(file) //nolint:gosec // the operator names it
	if err != nil {
		return nil, err
	}
	return Parse(file, data)
}

// Parse is Load for text that was read already; file names it in errors, and
// relative file names in it are relative to its directory.
func Parse(file string, data []byte) (*Config, error) {
	d := &decoder{file: file, at: places{}}
	root := d.parse(data)
	if root == nil {
		return nil, d.mistakes
	}
	c := &Config{file: file, place: d.at}
	setDefaults(reflect.ValueOf(c).Elem())
	d.value(root, reflect.ValueOf(c).Elem(), "", "")
	ck := &checker{config: c, mistakes: d.mistakes, refused: refused(d.mistakes)}
	ck.all()
	if len(ck.mistakes) > 0 {
		return nil, ck.mistakes.sorted()
	}
	return c, nil
}

// Path returns name as it is to be opened: relative names are relative to the
// directory of the configuration file.
func (c *Config) Path(name string) string {
	if name == "" || filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(filepath.Dir(c.file), name)
}

// refused are the keys that reading already found wrong: checks on them would only repeat it.
func refused(ms Mistakes) map[string]bool {
	keys := map[string]bool{}
	for _, m := range ms {
		keys[m.Key] = true
	}
	return keys
}
