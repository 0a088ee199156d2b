package e2e

import "syscall"

// dieWithUs puts a process into its own group, to be killed with its children,
// and has the kernel kill it when the test binary is killed.
func dieWithUs() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
