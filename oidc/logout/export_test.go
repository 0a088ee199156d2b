package logout

// For tests of readers of strangers' text.
var (
	Only   = only
	LifeOf = lifeOf
)
