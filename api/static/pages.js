/* Working pages: printing, a word when a query fails, and submitting a quarantined item again with an administrator's token. */
"use strict";
(() => {
  for (const button of document.querySelectorAll("[data-print]")) {
    button.hidden = false;
    button.addEventListener("click", () => print());
  }
  document.querySelector("nav [aria-current]")?.scrollIntoView({ inline: "center", block: "nearest" });
  const toast = document.getElementById("toast");
  let timer = 0;
  const failed = () => {
    toast.textContent = toast.dataset.failed;
    toast.hidden = false;
    clearTimeout(timer);
    timer = setTimeout(() => { toast.hidden = true; }, 8000);
  };
  if (toast) {
    /* 400 is the page with the filter marked; it is shown like any answer. */
    document.body.addEventListener("htmx:beforeSwap", (event) => {
      if (event.detail.xhr.status === 400) { event.detail.shouldSwap = true; event.detail.isError = false; }
    });
    for (const name of ["htmx:responseError", "htmx:sendError", "htmx:timeout"]) document.body.addEventListener(name, failed);
    document.body.addEventListener("htmx:afterRequest", (event) => { if (event.detail.successful) toast.hidden = true; });
  }

  const wire = () => {
    const desk = document.getElementById("desk");
    if (!desk || desk.dataset.wired) return;
    desk.dataset.wired = "1";
    desk.hidden = false;
    const token = document.getElementById("token");
    desk.addEventListener("submit", (event) => event.preventDefault());
    const follow = () => { for (const node of document.querySelectorAll("[data-release]")) node.hidden = token.value === ""; };
    token.addEventListener("input", follow);
    follow();
  };
  wire();
  document.body.addEventListener("htmx:afterSettle", wire);
  document.body.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-release] button");
    if (!button) return;
    const row = button.closest("[data-release]");
    const outcome = row.querySelector("[data-outcome]");
    button.disabled = true;
    try {
      const response = await fetch(`/v1/quarantine/${encodeURIComponent(row.dataset.release)}/release`, {
        method: "POST",
        /* The token goes nowhere but into this header: not into storage, not into an address. */
        headers: { Authorization: `Bearer ${document.getElementById("token").value}`, Accept: "application/json", "Accept-Language": document.documentElement.lang },
      });
      const answer = await response.json();
      const result = answer.results?.[0] ?? answer;
      outcome.textContent = result.problem?.detail ?? result.detail ?? row.closest("main").querySelector("#desk").dataset[result.status] ?? result.status;
      outcome.className = "outcome";
      button.disabled = result.status === "accepted" || result.status === "duplicate";
    } catch {
      failed();
      button.disabled = false;
    }
  });
})();
