/** The flow's picture as the API draws it, with the live calls on its boxes. */
import { effect, signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { bySteps, chooseStep, picture, step } from "./state";
import { count } from "./words";

const SVG = "http://www.w3.org/2000/svg";
const LEGIBLE = 0.9;
const ZOOMS = [0.35, 0.5, 0.65, 0.75, 0.9, 1, 1.25, 1.5];
const LIVE = `
  g[data-step] { cursor: pointer; outline: none; }
  g[data-step]:hover > rect:first-of-type { stroke-width: 2; }
  g[data-step]:focus-visible > rect:first-of-type { stroke: #0f5c57; stroke-width: 3; }
  g[data-step].busy > rect:first-of-type { stroke-width: 2; }
  g[data-step].chosen > rect:first-of-type { stroke: #0f5c57; stroke-width: 3.5; }
  .badge rect { fill: #0f5c57; stroke: #fff; stroke-width: 2; }
  .badge text { fill: #fff; font-size: 13px; font-weight: 700; text-anchor: middle; font-variant-numeric: tabular-nums; }
  svg { display: block; }
`;

const zoom = signal(1);
/** The scale at which the picture is as wide as its place, but not below `least` and not larger than it was drawn. */
const fitting = signal((least: number) => least);

export function Picture() {
  const host = useRef<HTMLDivElement>(null);
  const shown = picture.value;
  useEffect(() => {
    const at = host.current;
    if (shown === null) at?.shadowRoot?.replaceChildren();
    if (at === null || shown === null) return;
    const svg = placed(at, shown.svg);
    fitting.value = (least) => Math.min(1, Math.max(least, at.clientWidth / svg.viewBox.baseVal.width));
    zoom.value = fitting.value(LEGIBLE);
    at.scrollLeft = middleOfArrival(svg) * zoom.value - at.clientWidth / 2;
    const marking = effect(() => mark(svg, bySteps.value));
    const choosing = effect(() => choose(svg, step.value));
    const zooming = effect(() => scale(svg, zoom.value));
    return () => [marking, choosing, zooming].forEach((stop) => stop());
  }, [shown]);
  return (
    <section class="picture" aria-label="Picture of the flow">
      <div class="sheet" ref={host} />
      {shown === null && <p class="loading">Drawing the flow…</p>}
    </section>
  );
}

/** How large the picture is shown. */
export function Zoom() {
  const closer = (by: 1 | -1) => {
    const next = by > 0 ? ZOOMS.find((each) => each > zoom.value + 0.01) : [...ZOOMS].reverse().find((each) => each < zoom.value - 0.01);
    if (next !== undefined) zoom.value = next;
  };
  return (
    <div class="zoom" role="group" aria-label="Size of the picture">
      <button class="quiet" aria-label="Smaller" onClick={() => closer(-1)}>
        −
      </button>
      <span>{Math.round(zoom.value * 100)} %</span>
      <button class="quiet" aria-label="Larger" onClick={() => closer(1)}>
        +
      </button>
      <button class="quiet" onClick={() => (zoom.value = fitting.value(ZOOMS[0] ?? LEGIBLE))}>
        Fit width
      </button>
    </div>
  );
}

/**
 * Put the drawing into a tree of its own, so that its style concerns nothing else. That style is adopted, not written into the page,
 * which the content security policy would forbid.
 */
function placed(host: HTMLElement, text: string): SVGSVGElement {
  const root = host.shadowRoot ?? host.attachShadow({ mode: "open" });
  const [, before = "", style = "", after = ""] = /^([^]*?)<style>([^<]*)<\/style>([^]*)$/.exec(text) ?? [];
  const drawing = new DOMParser().parseFromString(before + after, "image/svg+xml");
  const svg = document.importNode(drawing.documentElement, true) as unknown as SVGSVGElement;
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(style + LIVE);
  root.adoptedStyleSheets = [sheet];
  root.replaceChildren(svg);
  for (const box of boxes(svg)) {
    box.setAttribute("role", "button");
    box.setAttribute("tabindex", "0");
    box.addEventListener("click", () => chooseStep(box.dataset.step ?? ""));
    box.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        chooseStep(box.dataset.step ?? "");
      }
    });
  }
  return svg;
}

function boxes(svg: SVGSVGElement): SVGGElement[] {
  return [...svg.querySelectorAll<SVGGElement>("g[data-step]")];
}

/** The number of calls at the corner of each box where there are any. */
function mark(svg: SVGSVGElement, calls: ReadonlyMap<string, readonly unknown[]>): void {
  for (const box of boxes(svg)) {
    const many = calls.get(box.dataset.step ?? "")?.length ?? 0;
    box.classList.toggle("busy", many > 0);
    box.setAttribute("aria-label", `${box.dataset.step}: ${count(many, "live call")}`);
    const old = box.querySelector(".badge");
    if (old?.textContent === String(many)) continue;
    old?.remove();
    if (many > 0) box.append(badge(box, String(many)));
  }
}

function badge(box: SVGGElement, text: string): SVGGElement {
  const [x, y, width] = ["x", "y", "width"].map((name) => Number(box.querySelector("rect")?.getAttribute(name)));
  const round = box.classList.contains("end") ? 14 : 4;
  const wide = 14 + 9 * text.length;
  const made = element("g", { class: "badge", transform: `translate(${(x ?? 0) + (width ?? 0) - round} ${(y ?? 0) + 1})` });
  const words = element("text", { y: "4.5" });
  words.textContent = text;
  made.append(element("rect", { x: String(-wide / 2), y: "-11", width: String(wide), height: "22", rx: "11" }), words);
  return made;
}

function element<K extends "g" | "rect" | "text">(name: K, attributes: { [name: string]: string }): SVGElementTagNameMap[K] {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function choose(svg: SVGSVGElement, name: string): void {
  for (const box of boxes(svg)) {
    const chosen = name !== "" && box.dataset.step === name;
    box.classList.toggle("chosen", chosen);
    if (chosen) box.scrollIntoView({ block: "nearest", inline: "nearest", behavior: "smooth" });
  }
}

function scale(svg: SVGSVGElement, by: number): void {
  svg.setAttribute("width", String(svg.viewBox.baseVal.width * by));
  svg.setAttribute("height", String(svg.viewBox.baseVal.height * by));
}

function middleOfArrival(svg: SVGSVGElement): number {
  const box = svg.querySelector("g.entry rect");
  return Number(box?.getAttribute("x") ?? 0) + Number(box?.getAttribute("width") ?? 0) / 2;
}
