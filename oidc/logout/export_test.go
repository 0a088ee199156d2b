package logout

// For tests of readers of strangers' text.
var (
	Only   = only
	Device = device
	LifeOf = lifeOf
	Origin = originOf
)

// MaxRows is how many sign-ins the page shows.
const MaxRows = maxRows
