// Command demo shows everything working on one machine: a provider to sign in
// at, an application, Envoy in front of it and Gatehouse deciding.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"
)

// options are the flags.
type options struct {
	port             int
	envoy, gatehouse string
	check, verbose   bool
}

func main() {
	// Children die with the thread that started them (see child_linux.go), so
	// that one has to be the main thread.
	runtime.LockOSThread()
	os.Exit(status())
}

func status() int {
	o, err := parseFlags(os.Args[1:], os.Getenv, os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := run(ctx, o, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		return 1
	}
	return 0
}

// parseFlags reads flags; PORT, ENVOY, GATEHOUSE and CHECK of the environment are their defaults.
func parseFlags(args []string, env func(string) string, out io.Writer) (options, error) {
	var o options
	f := flag.NewFlagSet("demo", flag.ContinueOnError)
	f.SetOutput(out)
	port := f.String("port", cmp.Or(env("PORT"), "10000"), "port of the application's address; 0 picks a free one")
	f.StringVar(&o.envoy, "envoy", cmp.Or(env("ENVOY"), ".tools/envoy/1.40.0/envoy"), "Envoy binary")
	f.StringVar(&o.gatehouse, "gatehouse", cmp.Or(env("GATEHOUSE"), "bin/gatehouse"), "Gatehouse binary")
	f.BoolVar(&o.check, "check", env("CHECK") == "1", "try everything, print one line per thing and exit")
	f.BoolVar(&o.verbose, "v", false, "print the logs of Envoy and Gatehouse")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	n, err := strconv.ParseUint(*port, 10, 16)
	if err != nil {
		err = fmt.Errorf("port %q is not a number between 0 and 65535", *port)
		fmt.Fprintln(out, "demo:", err)
		return o, err
	}
	o.port = int(n)
	return o, nil
}
