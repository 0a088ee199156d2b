package logout

import "strings"

// browsers and systems are what a person calls them, by a mark that is looked for in
// turn: most browsers name the others as well.
var (
	browsers = [][2]string{
		{"Edg", "Edge"},
		{"OPR/", "Opera"},
		{"Vivaldi/", "Vivaldi"},
		{"SamsungBrowser/", "Samsung Internet"},
		{"YaBrowser/", "Yandex Browser"},
		{"FxiOS/", "Firefox"},
		{"Firefox/", "Firefox"},
		{"CriOS/", "Chrome"},
		{"Chromium/", "Chromium"},
		{"Chrome/", "Chrome"},
		{"Safari/", "Safari"},
	}
	systems = [][2]string{
		{"iPhone", "iPhone"},
		{"iPad", "iPad"},
		{"Android", "Android"},
		{"CrOS", "ChromeOS"},
		{"Windows", "Windows"},
		{"Macintosh", "Mac"},
		{"Linux", "Linux"},
		{"FreeBSD", "FreeBSD"},
	}
)

// device says in words what a User-Agent line tells: "Firefox on Linux". A program that
// is no browser is called by its own name.
func device(agent string) string {
	browser, system := named(agent, browsers), named(agent, systems)
	switch {
	case browser != "" && system != "":
		return browser + " on " + system
	case browser != "" || system != "":
		return browser + system
	}
	name, _, _ := strings.Cut(agent, "/")
	if name = strings.TrimSpace(name); name == "" {
		return "Unknown device"
	}
	return strings.ToValidUTF8(name[:min(len(name), 40)], "") // no half of a character at the end
}

func named(agent string, by [][2]string) string {
	for _, mark := range by {
		if strings.Contains(agent, mark[0]) {
			return mark[1]
		}
	}
	return ""
}
