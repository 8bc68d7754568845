// Runs before the first paint and before the modules are there, and is none itself: the theme, so that a chosen one does
// not flash, and the requests that the page begins with, so that they are under way while the modules load.
(() => {
  const kept = (storage, name) => {
    try {
      return window[storage].getItem("wxproxy." + name);
    } catch {
      return null; // storage is off
    }
  };
  const theme = kept("localStorage", "theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;

  const begun = (window.begun = new Map()); // answers by address, with what they hold already read
  const read = async (response) => {
    const text = await response.text();
    return { ok: response.ok, status: response.status, json: async () => JSON.parse(text) };
  };
  const begin = (address, options) => {
    const answer = fetch(address, options).then(read);
    answer.catch(() => {}); // api.js takes the answer over, and reports its failure
    begun.set(String(address), answer);
  };
  const language = kept("localStorage", "language") ?? (/^zh\b/i.test(navigator.language) ? "zh" : "en");
  begin(new URL(`words/${language}.json`, document.currentScript.src));
  const token = kept("sessionStorage", "token");
  if (token === null || location.hash.startsWith("#code=")) return;
  const options = { headers: { Authorization: `Bearer ${token}` }, cache: "no-store", redirect: "error", credentials: "omit" };
  const [name, argument] = location.hash.replace(/^#\/?/, "").split("?")[0].split("/").map(decodeURIComponent);
  if (name === "") begin("/api/v1/accounts?limit=100", options);
  if (name === "app") begin(`/api/v1/usage?${new URLSearchParams({ app: argument ?? "" })}`, options);
})();
