package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// maxSecret bounds a file that the configuration names.
const maxSecret = 1 << 20

// FileRef is a file that the configuration names.
type FileRef struct {
	Key  string // where it is named, for example providers[0].client.secret_file
	Path string // as it is to be opened; of key_files it may be a pattern

	pattern bool
}

// Files are all files that the configuration names, in its order. Serving
// needs every one of them; validating needs none.
func (c *Config) Files() []FileRef {
	refs := fileRefs{config: c}
	refs.listeners()
	for i := range c.Providers {
		refs.provider(index("providers", i), &c.Providers[i])
	}
	if s := c.Sessions.Store; s != nil && s.Redis != nil {
		refs.redis("sessions.store.redis", s.Redis)
	}
	for i, name := range c.Sessions.KeyFiles {
		refs.add(index("sessions.key_files", i), name)
	}
	if c.Probe != nil {
		refs.add("probe.ca_file", c.Probe.CAFile)
		refs.add("probe.token_file", c.Probe.TokenFile)
	}
	return refs.all
}

// fileRefs gathers the files of a configuration.
type fileRefs struct {
	config *Config
	all    []FileRef
}

func (r *fileRefs) add(key, name string) {
	if name != "" {
		r.all = append(r.all, FileRef{key, r.config.Path(name), strings.HasPrefix(key, "sessions.key_files")})
	}
}

func (r *fileRefs) tls(key string, t *TLS) {
	if t != nil {
		r.add(key+".cert_file", t.CertFile)
		r.add(key+".key_file", t.KeyFile)
		r.add(key+".client_ca_file", t.ClientCAFile)
	}
}

func (r *fileRefs) listeners() {
	l := &r.config.Listen
	r.tls("listen.grpc.tls", l.GRPC.TLS)
	if l.HTTP != nil {
		r.tls("listen.http.tls", l.HTTP.TLS)
	}
	if l.Ops != nil {
		r.tls("listen.ops.tls", l.Ops.TLS)
	}
	if l.Admin != nil {
		r.tls("listen.admin.tls", l.Admin.TLS)
		r.add("listen.admin.token_file", l.Admin.TokenFile)
	}
	for i, f := range l.ForwardAuth {
		key := index("listen.forward_auth", i)
		r.tls(key+".tls", f.TLS)
		r.add(key+".secret_file", f.SecretFile)
	}
}

func (r *fileRefs) provider(key string, p *Provider) {
	r.add(key+".ca_file", p.CAFile)
	if p.Client != nil {
		r.add(key+".client.secret_file", p.Client.SecretFile)
	}
	if p.Bearer != nil {
		r.add(key+".bearer.token_file", p.Bearer.TokenFile)
		for i, k := range p.Bearer.Keys {
			r.add(index(key+".bearer.keys", i)+".pem_file", k.PEMFile)
			r.add(index(key+".bearer.keys", i)+".jwk_file", k.JWKFile)
		}
	}
}

func (r *fileRefs) redis(key string, s *Redis) {
	r.add(key+".username_file", s.UsernameFile)
	r.add(key+".password_file", s.PasswordFile)
	if t := s.Sentinel; t != nil {
		r.add(key+".sentinel.username_file", t.UsernameFile)
		r.add(key+".sentinel.password_file", t.PasswordFile)
	}
	if t := s.TLS; t != nil {
		r.add(key+".tls.ca_file", t.CAFile)
		r.add(key+".tls.cert_file", t.CertFile)
		r.add(key+".tls.key_file", t.KeyFile)
	}
}

// CheckFiles opens every file that the configuration names. The error is a Mistakes.
func (c *Config) CheckFiles() error {
	var ms Mistakes
	for _, ref := range c.Files() {
		paths, err := ref.expand()
		if err == nil && len(paths) == 0 {
			err = errors.New("no file matches")
		}
		for _, path := range paths {
			if err == nil {
				_, err = ReadFile(path)
			}
		}
		if err != nil {
			ms = append(ms, c.Mistake(ref.Key, "the file cannot be read", reason(err), "make "+quote(ref.Path)+" readable for this process"))
		}
	}
	if len(ms) == 0 {
		return nil
	}
	return ms.sorted()
}

// SessionKeyFiles returns the files that key_files names, sorted, none twice.
// What Kubernetes adds to a mounted volume ("..data") is not among them.
func (c *Config) SessionKeyFiles() ([]string, error) {
	var all []string
	for _, name := range c.Sessions.KeyFiles {
		paths, err := FileRef{Path: c.Path(name), pattern: true}.expand()
		if err != nil {
			return nil, err
		}
		if len(paths) == 0 {
			return nil, fmt.Errorf("no file matches %q", name)
		}
		all = append(all, paths...)
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

func (r FileRef) expand() ([]string, error) {
	if !r.pattern || !strings.ContainsAny(r.Path, "*?[") {
		return []string{r.Path}, nil
	}
	paths, err := filepath.Glob(r.Path)
	if err != nil {
		return nil, fmt.Errorf("bad pattern %q", r.Path)
	}
	return slices.DeleteFunc(paths, func(p string) bool {
		info, err := os.Stat(p)
		return strings.HasPrefix(filepath.Base(p), "..") || err != nil || info.IsDir()
	}), nil
}

// ReadFile reads a small file that the configuration names.
func ReadFile(path string) ([]byte, error) {
	f, err := os.Open(path) //nolint:gosec // the operator names it
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxSecret {
		return nil, fmt.Errorf("%s is larger than %d MiB", path, maxSecret>>20)
	}
	if len(data) == 0 {
		return nil, fmt.Errorf("%s is empty", path)
	}
	return data, nil
}

// ReadSecret reads a secret: the first line of a file, which must be its only one.
func ReadSecret(path string) (string, error) {
	data, err := ReadFile(path)
	if err != nil {
		return "", err
	}
	secret := strings.TrimRight(string(data), "\r\n")
	if secret == "" || strings.ContainsAny(secret, "\r\n\x00") {
		return "", fmt.Errorf("%s does not hold one line with a secret", path)
	}
	return secret, nil
}

// reason says why a file cannot be read, without naming it again.
func reason(err error) string {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err.Error()
	}
	return err.Error()
}

// Warnings are choices that work and are dangerous all the same.
func (c *Config) Warnings() Mistakes {
	var ms Mistakes
	for i, p := range c.Providers {
		if p.EmailVerified == "trust" {
			ms = append(ms, c.Mistake(index("providers", i)+".email_verified", "e-mail addresses count without the provider's word that they are verified", "trust", ""))
		}
		if p.Bearer != nil && p.Bearer.InsecureAcceptLoginTokens {
			ms = append(ms, c.Mistake(index("providers", i)+".bearer.insecure_accept_login_tokens", "an application that receives its user's token can use it elsewhere", "true", ""))
		}
		if b := p.Bearer; b != nil && b.Keys != nil && b.MaxLifetime == 0 && b.MaxTokenAge == 0 {
			ms = append(ms, c.Mistake(index("providers", i)+".bearer.keys", "tokens by these keys are good for as long as whoever made them wrote, even for decades", "", "limit them with max_token_age or max_lifetime"))
		}
	}
	if a := c.Listen.Admin; a != nil && a.TLS != nil && a.TLS.ClientCAFile != "" && a.TLS.ClientIDs == nil && a.TokenFile == "" {
		ms = append(ms, c.Mistake("listen.admin.tls", "every client certificate of these authorities may sign anybody out", "", "name those that may in client_ids"))
	}
	ms = append(ms, c.forwardWarnings()...)
	if s := c.Sessions.Store; s != nil && s.Memory != nil {
		ms = append(ms, c.Mistake("sessions.store.memory", "sessions live in this process only: run one replica; a restart signs everybody out", "", "use redis for more"))
	}
	return ms
}
