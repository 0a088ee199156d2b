// Package authz decides what happens to a request: who is asking, does the rule
// allow it, what to answer.
package authz
