package config

import (
	"maps"
	"slices"
	"strings"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

// compileMore adds the conditions that are not about who somebody is, and those
// that hold others.
func (cs *Conditions) compileMore(all []authz.Condition, key string, report func(string, error)) []authz.Condition {
	if len(cs.Scopes) > 0 {
		all = appendCondition(all, key+".scopes", report)(authz.Scopes(cs.Scopes...))
	}
	if cs.Peer != nil && len(cs.Peer.SPIFFE) > 0 {
		all = appendCondition(all, key+".peer.spiffe", report)(authz.Peers(cs.Peer.SPIFFE...))
	}
	if cs.CEL != nil && cs.CEL.condition.Check != nil {
		all = append(all, cs.CEL.condition)
	}
	all = append(all, compileEach(cs.All, key+".all", report)...)
	if len(cs.Any) > 0 {
		all = append(all, authz.Any(compileEach(cs.Any, key+".any", report)...))
	}
	if cs.Not != nil {
		all = append(all, authz.Not(cs.Not.compile(key+".not", report)))
	}
	return all
}

func compileEach(list []Conditions, key string, report func(string, error)) []authz.Condition {
	each := make([]authz.Condition, len(list))
	for i := range list {
		each[i] = list[i].compile(index(key, i), report)
	}
	return each
}

// condition checks what conditions say, and those within them.
func (ck *checker) condition(key string, cs *Conditions, sources []string) {
	switch {
	case !cs.say() && !ck.anyBelow(key):
		ck.wrong(key, "says no condition", "", "name groups, emails, email_domains, subjects, claims, scopes, peer or cel, or write any_user: true")
	case cs.Provider != "" && !slices.Contains(sources, cs.Provider):
		ck.wrong(key+".provider", "the rule does not recognise users of this provider", quote(cs.Provider), "write one of: "+strings.Join(sources, ", "))
	}
	for i := range cs.All {
		ck.condition(index(key+".all", i), &cs.All[i], sources)
	}
	for i := range cs.Any {
		ck.condition(index(key+".any", i), &cs.Any[i], sources)
	}
	if cs.Not == nil {
		return
	}
	ck.condition(key+".not", cs.Not, sources)
	if cs.Not.onlyAnyUser() {
		ck.wrong(key+".not", "nobody could pass: any_user is everybody", "", "leave it out")
	}
}

// say reports whether there is any condition but provider, which narrows others.
func (cs *Conditions) say() bool {
	who := cs.AnyUser || cs.Groups != nil || cs.Emails != nil || cs.EmailDomains != nil || cs.Subjects != nil || cs.Claims != nil
	return who || cs.Scopes != nil || cs.Peer != nil || cs.CEL != nil || cs.All != nil || cs.Any != nil || cs.Not != nil
}

func (cs *Conditions) onlyAnyUser() bool {
	rest := *cs
	rest.AnyUser = false
	return cs.AnyUser && cs.Provider == "" && !rest.say()
}

// compile builds what the application receives. A nil Forward adds nothing. report
// is called with the key of each mistake.
func (f *Forward) compile(key string, report func(string, error)) authz.Forward {
	if f == nil {
		return authz.Forward{}
	}
	out := authz.Forward{AccessToken: f.AccessToken, IDToken: f.IDToken, Groups: f.Groups}
	for _, name := range slices.Sorted(maps.Keys(f.Headers)) {
		h, err := authz.NewClaimHeader(name, f.Headers[name])
		if err != nil {
			report(key+".headers."+clip(name), err)
			continue
		}
		out.Headers = append(out.Headers, h)
	}
	return out
}
