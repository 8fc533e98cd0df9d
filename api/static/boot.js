/* Runs before the first paint: what needs JavaScript is shown only where JavaScript runs. */
document.documentElement.classList.add("js");
