// What a browser keeps for the operator: the token for the tab, the choices for longer. Without storage all
// works, and nothing is kept.
const keep = (storage) => ({
  get(name) {
    try {
      return window[storage].getItem("wxproxy." + name);
    } catch {
      return null;
    }
  },
  set(name, value) {
    try {
      if (value === null) window[storage].removeItem("wxproxy." + name);
      else window[storage].setItem("wxproxy." + name, value);
    } catch {
      // It is kept until the page is left.
    }
  },
});

// opened is when all that early.js has begun is answered, and painted when it is shown: what the first view does not
// need waits for that.
export const opened = Promise.allSettled([...(window.begun?.values() ?? [])]);
export const painted = opened.then(() => new Promise((resolve) => {
  requestAnimationFrame(() => requestAnimationFrame(resolve));
  setTimeout(resolve, 300); // a page in the background has no frames
}));

// begun is the answer to a request that early.js has begun, once; undefined if it has not.
export function begun(address) {
  const answer = window.begun?.get(String(address));
  window.begun?.delete(String(address));
  return answer;
}

export const tab = keep("sessionStorage");
export const browser = keep("localStorage");
