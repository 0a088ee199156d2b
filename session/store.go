package session

// Store keeps records. The session helper owns its shape; two implementations:
// Memory in this package, redisstore.
type Store interface{}
