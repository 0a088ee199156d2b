package config

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/gatehouse-mesh/gatehouse/authz"
)

// Sources supplies the authenticators of rules.
type Sources struct {
	// Login is for browser sessions, with tokens: to forward them. choice are all providers
	// that browsers of the rule can choose from.
	Login  func(provider string, tokens bool, choice []string) authz.Authenticator
	Bearer func(provider string) authz.Authenticator // bearer tokens
}

// Policy builds the rules with the given authenticators.
func (c *Config) Policy(s Sources) (*authz.Policy, error) {
	rules := make([]authz.Rule, len(c.Rules))
	for i := range c.Rules {
		rules[i] = c.rule(&c.Rules[i], s)
	}
	return authz.NewPolicy(rules)
}

// RuleNames are the names of all rules, in their order.
func (c *Config) RuleNames() []string {
	names := make([]string, len(c.Rules))
	for i, r := range c.Rules {
		names[i] = r.Name
	}
	return names
}

// AnonymousRules is how many rules let everybody pass.
func (c *Config) AnonymousRules() (n int) {
	for i := range c.Rules {
		if c.Rules[i].Allow != "" {
			n++
		}
	}
	return n
}

// rule builds one rule; mistakes in its conditions were reported by check.
func (c *Config) rule(r *Rule, s Sources) authz.Rule {
	out := authz.Rule{
		Name: r.Name, Paths: r.Paths, Methods: r.Methods,
		Anonymous: r.Allow == "anonymous", Overrides: r.Overrides,
	}
	for _, h := range r.Hosts {
		name, _, _, _ := parseHost(h)
		out.Hosts = append(out.Hosts, name)
	}
	out.Forward = r.Forward.compile("", func(string, error) {})
	for _, name := range r.Bearer {
		out.Sources = append(out.Sources, authz.Source{Provider: name, Authenticator: s.Bearer(name)})
	}
	for _, name := range r.Login {
		out.Sources = append(out.Sources, authz.Source{Provider: name, Login: true, Authenticator: s.Login(name, out.Forward.Tokens(), r.Login)})
	}
	out.Require = r.condition("", func(string, error) {})
	return out
}

// condition compiles require and audience. report is called with the key of each mistake.
func (r *Rule) condition(key string, report func(key string, err error)) authz.Condition {
	if len(r.Require.Any) == 0 {
		return authz.Condition{}
	}
	var any []authz.Condition
	for i, cs := range r.Require.Any {
		any = append(any, cs.compile(r.Require.key(key, i), report))
	}
	if len(r.Audience) == 0 {
		return authz.Any(any...)
	}
	return authz.All(tokenAudience(r.Audience), authz.Any(any...))
}

// tokenAudience narrows bearer tokens only: the audience of a session is the login client.
func tokenAudience(audiences []string) authz.Condition {
	narrow := authz.Audience(audiences...)
	check := narrow.Check
	if check == nil {
		return narrow
	}
	narrow.Text = "token " + narrow.Text
	narrow.Check = func(r *authz.Request, id *authz.Identity) error {
		if id.Session != "" {
			return nil
		}
		return check(r, id)
	}
	return narrow
}

func (cs *Conditions) compile(key string, report func(string, error)) authz.Condition {
	var all []authz.Condition
	if cs.Provider != "" {
		all = append(all, authz.FromProvider(cs.Provider))
	}
	if cs.AnyUser {
		all = append(all, authz.AnyUser())
	}
	if len(cs.Groups) > 0 {
		all = append(all, authz.Groups(cs.Groups...))
	}
	if len(cs.Emails) > 0 {
		all = append(all, authz.Emails(cs.Emails...))
	}
	if len(cs.EmailDomains) > 0 {
		all = append(all, authz.EmailDomains(cs.EmailDomains...))
	}
	if len(cs.Subjects) > 0 {
		all = appendCondition(all, key+".subjects", report)(authz.Subjects(cs.Subjects...))
	}
	for _, pointer := range sortedKeys(cs.Claims) {
		if values := cs.Claims[pointer]; len(values) > 0 {
			all = appendCondition(all, key+".claims."+clip(pointer), report)(authz.ClaimIn(pointer, values...))
		}
	}
	return authz.All(cs.compileMore(all, key, report)...)
}

func appendCondition(all []authz.Condition, key string, report func(string, error)) func(authz.Condition, error) []authz.Condition {
	return func(c authz.Condition, err error) []authz.Condition {
		if err != nil {
			report(key, err)
			return all
		}
		return append(all, c)
	}
}

var rulePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)

func (ck *checker) rules() {
	names, origins := map[string]string{}, map[string]origin{}
	for i := range ck.config.Rules {
		r, key := &ck.config.Rules[i], index("rules", i)
		switch {
		case !rulePattern.MatchString(r.Name):
			ck.wrong(key+".name", "not a name for a rule", quote(r.Name), `write letters, digits, "-", "_" and ".", at most 64`)
		case names[r.Name] != "":
			ck.wrong(key+".name", "the same name as "+names[r.Name], quote(r.Name), "give each rule its own name")
		default:
			names[r.Name] = key
		}
		ck.ruleHosts(key, r, origins)
		ck.access(key, r)
	}
	ck.sessionHosts()
	ck.loginProviders()
	ck.ownPaths()
	ck.policy()
}

type origin struct{ url, key string }

func (ck *checker) ruleHosts(key string, r *Rule, origins map[string]origin) {
	for i, entry := range r.Hosts {
		k := index(key+".hosts", i)
		name, url, problem, hint := parseHost(entry)
		if problem != "" {
			ck.wrong(k, problem, quote(entry), hint)
			continue
		}
		if strings.HasPrefix(name, "*.") {
			continue
		}
		if h := ck.config.loginHost; h != nil && h.Name == name && h.Origin != url {
			ck.wrong(k, fmt.Sprintf("another origin of this host than in login_url (%s)", h.Origin), quote(entry), "write the same origin")
			continue
		}
		if first, ok := origins[name]; ok && first.url != url {
			ck.wrong(k, fmt.Sprintf("another origin of this host than in %s (%s)", first.key, first.url), quote(entry), "write the same origin in every rule")
			continue
		}
		origins[name] = origin{url, k}
		if len(r.Login) > 0 {
			ck.config.addLogin(name, url, r.Login)
		}
	}
}

// addLogin notes that people sign in on a host with some providers.
func (c *Config) addLogin(name, origin string, providers []string) {
	h := c.loginHost
	if h == nil || h.Name != name {
		i := slices.IndexFunc(c.hosts, func(h Host) bool { return h.Name == name })
		if i < 0 {
			i = len(c.hosts)
			c.hosts = append(c.hosts, Host{Name: name, Origin: origin})
		}
		h = &c.hosts[i]
	}
	for _, p := range providers {
		if !slices.Contains(h.Providers, p) {
			h.Providers = append(h.Providers, p)
		}
	}
}

// access checks who may pass: allow, or login and bearer with require.
func (ck *checker) access(key string, r *Rule) {
	ck.ruleProviders(key, r)
	recognises := len(r.Login) > 0 || len(r.Bearer) > 0
	if r.Allow != "" || ck.refused[key+".allow"] {
		for _, other := range []struct {
			key   string
			given bool
		}{{"login", r.Login != nil}, {"bearer", r.Bearer != nil}, {"require", r.Require.Any != nil}, {"forward", r.Forward != nil}, {"audience", r.Audience != nil}} {
			if other.given {
				ck.wrong(key+"."+other.key, "allow: anonymous asks nobody who they are", "", "keep one of allow and "+other.key)
			}
		}
		return
	}
	if !recognises && !ck.refused[key+".login"] && !ck.refused[key+".bearer"] {
		ck.wrong(key, "nobody is recognised: neither login nor bearer", "", "add login or bearer with require, or write allow: anonymous")
	}
	if recognises && r.Require.Any == nil {
		ck.wrong(key+".require", "missing: the rule does not say who may pass", "", "name groups, emails, email_domains, subjects, claims, scopes, peer or cel, or write require: any_user")
	}
	if r.Forward != nil && (r.Forward.AccessToken || r.Forward.IDToken) && len(r.Login) == 0 {
		ck.wrong(key+".forward", "there are no tokens to forward without a login", "", "add login, or leave out forward")
	}
	r.Forward.compile(key+".forward", func(k string, err error) { ck.wrong(k, err.Error(), "", "") })
	ck.audience(key+".audience", r)
	ck.conditions(key, r)
}

func (ck *checker) ruleProviders(key string, r *Rule) {
	for i, name := range r.Login {
		k := index(key+".login", i)
		if _, list := ck.config.place[k]; !list {
			k = key + ".login"
		}
		if name == "" {
			continue
		}
		if p := ck.provider(k, name); p != nil && p.Client == nil {
			ck.wrong(k, "this provider has no client, so nobody can sign in there", quote(name), "add client: {id: …} to the provider")
		}
	}
	for i, name := range r.Bearer {
		if name == "" {
			continue
		}
		if p := ck.provider(index(key+".bearer", i), name); p != nil && p.Bearer == nil {
			ck.wrong(index(key+".bearer", i), "this provider does not say which bearer tokens are accepted", quote(name), "add bearer: {audiences: […]} to the provider")
		}
	}
}

// provider finds a provider, or reports that there is none of that name.
func (ck *checker) provider(key, name string) *Provider {
	if p := ck.config.Provider(name); p != nil {
		return p
	}
	var names []string
	for _, p := range ck.config.Providers {
		names = append(names, p.Name)
	}
	hint := "there are no providers"
	if near := nearest(name, names); near != "" {
		hint = fmt.Sprintf("did you mean %q?", near)
	} else if len(names) > 0 {
		hint = "there are: " + strings.Join(names, ", ")
	}
	ck.wrong(key, "no provider of this name", quote(name), hint)
	return nil
}

// Provider returns the provider of that name, or nil.
func (c *Config) Provider(name string) *Provider {
	for i := range c.Providers {
		if c.Providers[i].Name == name {
			return &c.Providers[i]
		}
	}
	return nil
}

func (ck *checker) audience(key string, r *Rule) {
	if r.Audience != nil && len(r.Bearer) == 0 {
		ck.wrong(key, "audience narrows bearer tokens, and the rule takes none", "", "add bearer, or leave out audience")
		return
	}
	for i, a := range r.Audience {
		known := slices.ContainsFunc(r.Bearer, func(name string) bool {
			p := ck.config.Provider(name)
			return p == nil || p.Bearer == nil || slices.Contains(p.Bearer.Audiences, a)
		})
		if !known && a != "" {
			ck.wrong(index(key, i), "none of the rule's bearer providers accepts this audience", quote(a), "add it to the provider's bearer.audiences")
		}
	}
}

func (ck *checker) conditions(key string, r *Rule) {
	sources := slices.Clone(r.Bearer)
	sources = append(sources, r.Login...)
	slices.Sort(sources)
	sources = slices.Compact(sources)
	for i := range r.Require.Any {
		cs, k := &r.Require.Any[i], r.Require.key(key, i)
		ck.condition(k, cs, sources)
		if len(sources) > 1 && cs.compile(k, func(string, error) {}).OfProvider {
			ck.wrong(k, "the rule has several providers, and the same group, address, claim or subject may be somebody else at each", "", "add provider: NAME to every condition, one of: "+strings.Join(sources, ", "))
		}
	}
	r.condition(key, func(k string, err error) { ck.wrong(k, err.Error(), "", "") })
}

// anyBelow reports whether something below key was found wrong already.
func (ck *checker) anyBelow(key string) bool {
	for k := range ck.refused {
		if strings.HasPrefix(k, key+".") || strings.HasPrefix(k, key+"[") {
			return true
		}
	}
	return false
}

// ownPaths refuses rules for what Gatehouse answers itself.
func (ck *checker) ownPaths() {
	for i, r := range ck.config.Rules {
		login := slices.ContainsFunc(r.Hosts, func(entry string) bool {
			name, _, _, _ := parseHost(entry)
			return ck.config.signsIn(name)
		})
		for j, p := range r.Paths {
			if login && (strings.TrimSuffix(p, "/**") == ck.config.Prefix || strings.HasPrefix(p, ck.config.Prefix+"/")) {
				ck.wrong(index(index("rules", i)+".paths", j), "can never match: on hosts with a login Gatehouse answers everything below "+ck.config.Prefix+" itself", quote(p), "leave it out, or choose another prefix")
			}
		}
	}
}

// signsIn reports whether Gatehouse answers below the prefix of a host.
func (c *Config) signsIn(name string) bool {
	return c.loginHost != nil && c.loginHost.Name == name || slices.ContainsFunc(c.hosts, func(h Host) bool { return h.Name == name })
}

// policy asks the policy itself, which also sees what only all rules together show.
func (ck *checker) policy() {
	var rules []authz.Rule
	var indexes []int
	unknown := Sources{
		Login:  func(string, bool, []string) authz.Authenticator { return nobody{} },
		Bearer: func(string) authz.Authenticator { return nobody{} },
	}
	for i := range ck.config.Rules {
		key := index("rules", i)
		if ck.foundWrong(key+".hosts") || ck.foundWrong(key+".paths") || ck.foundWrong(key+".methods") || ck.foundWrong(key+".login") {
			continue // it would seem to cover more, or to know fewer people, than it says
		}
		rules = append(rules, ck.config.rule(&ck.config.Rules[i], unknown))
		indexes = append(indexes, i)
	}
	if len(rules) == 0 {
		return
	}
	_, err := authz.NewPolicy(rules)
	found := ruleErrors(err)
	if err != nil && len(found) == 0 {
		ck.wrong("rules", err.Error(), "", "")
	}
	var ms Mistakes // several at one key, too: each is about another value
	for _, e := range found {
		key := "rules"
		if e.Rule >= 0 {
			key = join(index("rules", indexes[e.Rule]), e.Key)
		}
		if !ck.foundWrong(key) && !ck.foundWrongAbove(key) {
			ms = append(ms, ck.config.Mistake(key, e.Msg, "", e.Hint))
		}
	}
	ck.mistakes = append(ck.mistakes, ms...)
}

func (ck *checker) foundWrong(key string) bool { return ck.refused[key] || ck.anyBelow(key) }

// ruleErrors collects the *authz.RuleErrors that err joins.
func ruleErrors(err error) []*authz.RuleError {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []*authz.RuleError
		for _, e := range joined.Unwrap() {
			all = append(all, ruleErrors(e)...)
		}
		return all
	}
	if e, ok := errors.AsType[*authz.RuleError](err); ok {
		return []*authz.RuleError{e}
	}
	return nil
}

// nobody stands where an authenticator will be: rules are checked without secrets and without asking anyone.
type nobody struct{}

func (nobody) Authenticate(context.Context, *authz.Request) (*authz.Identity, error) {
	return nil, authz.ErrNoCredentials
}
func (nobody) Challenge(*authz.Request, error) authz.Challenge { return authz.Challenge{} }

func sortedKeys(m map[string]Values) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
