package admin

import (
	"net"
	"strconv"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// localUser is the user at the other end of a unix socket.
type localUser struct {
	credentials.CommonAuthInfo
	uid uint32
}

// AuthType is what grpc calls this proof.
func (localUser) AuthType() string { return "unix" }

// String is how the log names him.
func (u localUser) String() string { return "uid " + strconv.FormatUint(uint64(u.uid), 10) }

// plain is plain text that knows who is at the other end of a unix socket. It decides
// nothing: that only our own user can open the socket is the matter of its mode.
type plain struct {
	credentials.TransportCredentials
}

func peerCredentials() credentials.TransportCredentials { return plain{insecure.NewCredentials()} }

// ServerHandshake leaves the connection as it is.
func (p plain) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	if unix, ok := conn.(*net.UnixConn); ok {
		if uid, ok := peerUID(unix); ok {
			return conn, localUser{credentials.CommonAuthInfo{SecurityLevel: credentials.NoSecurity}, uid}, nil
		}
	}
	return p.TransportCredentials.ServerHandshake(conn)
}

// Clone is needed by the interface: that of the embedded one would forget what this is for.
func (p plain) Clone() credentials.TransportCredentials {
	return plain{p.TransportCredentials.Clone()}
}
