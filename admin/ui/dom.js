// What every view is written with.
import { h } from "./vendor/preact.mjs";
import htm from "./vendor/htm.module.js";

export { render, Fragment } from "./vendor/preact.mjs";
export { useCallback, useEffect, useId, useLayoutEffect, useMemo, useRef, useState } from "./vendor/hooks.mjs";

export const html = htm.bind(h);

// classes joins the names that are set.
export const classes = (...names) => names.filter(Boolean).join(" ");
