package main

import (
	"crypto/tls"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/gatehouse-mesh/gatehouse/cmd/internal/config"
)

// recheck is how often TLS files are looked at, at most, when connections come in.
const recheck = time.Second

// serverTLS returns nil when t is nil. Its files are read again when they
// change; files that cannot be read leave what was read last in use.
func serverTLS(cfg *config.Config, t *config.TLS, log *slog.Logger, protocols ...string) (*tls.Config, error) {
	if t == nil {
		return nil, nil //nolint:nilnil // no TLS was asked for
	}
	f := &tlsFiles{cfg: cfg, tls: t, log: log, protocols: protocols}
	first, err := f.read()
	if err != nil {
		return nil, err
	}
	f.current, f.stamp, f.checked = first, f.stamps(), time.Now()
	c := first.Clone()
	c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return f.config(), nil }
	return c, nil
}

// tlsFiles is the TLS of one listener.
type tlsFiles struct {
	cfg       *config.Config
	tls       *config.TLS
	log       *slog.Logger
	protocols []string

	mu      sync.Mutex // guards what follows
	current *tls.Config
	stamp   [3]fileStamp
	checked time.Time
	wrong   string // what was said last of files that cannot be used; empty: they can
}

// fileStamp changes when a file is replaced or written.
type fileStamp struct {
	modified time.Time
	size     int64
}

func (f *tlsFiles) config() *tls.Config {
	f.mu.Lock()
	defer f.mu.Unlock()
	if time.Since(f.checked) < recheck {
		return f.current
	}
	f.checked = time.Now()
	now := f.stamps()
	if now == f.stamp {
		return f.current
	}
	next, err := f.read()
	if err != nil {
		if f.wrong != err.Error() { // not for every connection
			f.log.Error("TLS files changed but cannot be used; the old ones stay", "cert_file", f.tls.CertFile, "error", err.Error())
		}
		f.wrong = err.Error()
		return f.current
	}
	f.current, f.stamp, f.wrong = next, now, ""
	f.log.Info("TLS files read again", "cert_file", f.tls.CertFile)
	return next
}

func (f *tlsFiles) stamps() (stamps [3]fileStamp) {
	for i, name := range []string{f.tls.CertFile, f.tls.KeyFile, f.tls.ClientCAFile} {
		if info, err := os.Stat(f.cfg.Path(name)); name != "" && err == nil {
			stamps[i] = fileStamp{info.ModTime(), info.Size()}
		}
	}
	return stamps
}

func (f *tlsFiles) read() (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(f.cfg.Path(f.tls.CertFile), f.cfg.Path(f.tls.KeyFile))
	if err != nil {
		return nil, err
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, NextProtos: f.protocols}
	if f.tls.ClientCAFile != "" {
		if c.ClientCAs, err = readCAs(f.cfg.Path(f.tls.ClientCAFile)); err != nil {
			return nil, err
		}
		c.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return c, nil
}
