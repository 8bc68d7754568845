// Hooks that several views need.
import { useCallback, useEffect, useLayoutEffect, useRef, useState } from "./dom.js";

const inFront = () => document.visibilityState === "visible";

// useAnswer asks again every so many milliseconds while the page is in front, and when what it depends on changes.
// What was answered stays until there is something newer: error and at say how old it is.
export function useAnswer(request, depends, every) {
  const [state, set] = useState({ data: null, error: null, at: null, asking: true });
  const again = useRef(() => {});
  const last = useRef(null);
  useLayoutEffect(() => { // an effect would wait for a frame without figures
    const abort = new AbortController();
    let timer = 0;
    let running = false;
    const key = JSON.stringify(depends);
    if (last.current !== key) set({ data: null, error: null, at: null, asking: true });
    last.current = key;
    const run = async () => {
      clearTimeout(timer);
      if (running) return;
      running = true;
      try {
        const data = await request(abort.signal);
        if (!abort.signal.aborted) set({ data, error: null, at: Date.now(), asking: false });
      } catch (error) {
        if (!abort.signal.aborted) set((old) => ({ ...old, error, asking: false }));
      }
      running = false;
      if (every && inFront() && !abort.signal.aborted) timer = setTimeout(run, every);
    };
    const seen = () => (inFront() ? every && run() : clearTimeout(timer));
    document.addEventListener("visibilitychange", seen);
    again.current = run;
    run();
    return () => {
      abort.abort();
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", seen);
    };
  }, [...depends, every]);
  return { ...state, again: useCallback(() => again.current(), []) };
}

// useTheme renders anew when the colours change, by the system or by the switch.
export function useTheme() {
  const [n, set] = useState(0);
  useEffect(() => {
    const dark = matchMedia("(prefers-color-scheme: dark)");
    const changed = () => set((old) => old + 1);
    dark.addEventListener("change", changed);
    addEventListener("theme", changed);
    return () => {
      dark.removeEventListener("change", changed);
      removeEventListener("theme", changed);
    };
  }, []);
  return n;
}

// useRows is how many rows of a long table to draw: at first those that a window has room for, and all of them once
// these are painted.
export function useRows() {
  const [rows, draw] = useState(() => Math.max(20, Math.ceil(innerHeight / 40)));
  useLayoutEffect(() => {
    let frame = requestAnimationFrame(() => (frame = requestAnimationFrame(() => draw(Infinity)))); // the frame after the first
    return () => cancelAnimationFrame(frame);
  }, []);
  return rows;
}

// useLater is a value that follows another once that has been quiet.
export function useLater(value, milliseconds = 250) {
  const [later, set] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => set(value), milliseconds);
    return () => clearTimeout(timer);
  }, [value]);
  return later;
}

// useRoute is where the page is: #/name/argument?query.
export function useRoute() {
  const [hash, set] = useState(location.hash);
  useEffect(() => {
    const changed = () => set(location.hash);
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  }, []);
  const [path, query] = hash.replace(/^#\/?/, "").split("?");
  const [name, argument] = path.split("/").map(decodeURIComponent);
  return { name, argument: argument ?? "", query: Object.fromEntries(new URLSearchParams(query ?? "")) };
}

// to is the address of a view.
export function to(name, argument, query) {
  const kept = Object.entries(query ?? {}).filter(([, value]) => value);
  return `#/${name}${argument ? `/${encodeURIComponent(argument)}` : ""}${kept.length ? `?${new URLSearchParams(kept)}` : ""}`;
}

// replace changes the address without a step in the history.
export function replace(address) {
  history.replaceState(null, "", address);
  dispatchEvent(new HashChangeEvent("hashchange"));
}
