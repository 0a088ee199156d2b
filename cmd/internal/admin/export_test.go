package admin

import adminv1 "github.com/gatehouse-mesh/gatehouse/proto/gatehouse/admin/v1"

// NewSessions is the service without its server.
func NewSessions(current func() Current) adminv1.SessionsServer { return &sessions{current: current} }
