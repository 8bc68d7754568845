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

export const tab = keep("sessionStorage");
export const browser = keep("localStorage");
