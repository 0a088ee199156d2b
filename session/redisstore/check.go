package redisstore

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// Check asks every master for settings that lose sessions, and returns a warning for
// the operator, or "". The error is that of reaching Redis.
func (s *Store) Check(ctx context.Context) (warning string, err error) {
	if s.cluster == nil {
		return checkServer(ctx, s.client)
	}
	var mu sync.Mutex // guards warning
	err = s.cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
		text, err := checkServer(ctx, node)
		mu.Lock()
		defer mu.Unlock()
		if text != "" {
			warning = text
		}
		return err
	})
	return warning, err
}

func checkServer(ctx context.Context, server redis.Cmdable) (warning string, err error) {
	info, err := server.Info(ctx, "memory").Result()
	if redis.IsPermissionError(err) {
		return "redis: cannot see the eviction policy (the user may not run INFO); make sure that maxmemory-policy is noeviction", nil
	}
	if err != nil {
		return "", classify(err)
	}
	policy := infoField(info, "maxmemory_policy")
	switch {
	case policy == "noeviction":
		return "", nil
	case policy == "":
		return "redis: does not tell its eviction policy; make sure that maxmemory-policy is noeviction", nil
	case infoField(info, "maxmemory") == "0":
		return fmt.Sprintf("redis: would evict sessions (maxmemory-policy %s) as soon as maxmemory is set; set maxmemory-policy to noeviction", policy), nil
	}
	return fmt.Sprintf("redis: evicts sessions when memory is full, which signs users out (maxmemory-policy %s); set maxmemory-policy to noeviction", policy), nil
}

// infoField finds a line "name:value" of the answer to INFO.
func infoField(info, name string) string {
	for line := range strings.SplitSeq(info, "\r\n") {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return value
		}
	}
	return ""
}
