package authz

// Condition reports whether an identity may pass: nil holds, the error says why
// not (for operators; it never leaves in a response). The zero value (nil) is
// no condition at all and refused by NewPolicy on an authenticated rule.
type Condition func(*Request, *Identity) error

func AnyUser() Condition                                    { panic("contract") }
func Groups(any ...string) Condition                        { panic("contract") }
func Emails(any ...string) Condition                        { panic("contract") } // verified e-mail only
func EmailDomains(any ...string) Condition                  { panic("contract") } // verified e-mail only; "*.example.com" covers subdomains
func Subjects(globs ...string) (Condition, error)           { panic("contract") } // "*" matches any run of characters
func ClaimIn(pointer string, any ...any) (Condition, error) { panic("contract") } // the claim equals one of any, or is an array that contains one
func Audience(any ...string) Condition                      { panic("contract") }
func FromProvider(name string) Condition                    { panic("contract") }
func All(cs ...Condition) Condition                         { panic("contract") }
func Any(cs ...Condition) Condition                         { panic("contract") }
