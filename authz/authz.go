// Package authz decides what happens to a request: who is asking, does the rule
// allow it, what to answer.
//
// An edge (package extauthz, Handler) turns what it received into a Raw, brings
// it into canonical form with NewRequest and asks an Authorizer, which never
// fails: whatever goes wrong is a Decision that denies.
package authz
