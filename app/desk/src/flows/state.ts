/**
 * What the page knows, and how it keeps knowing it.
 *
 * It asks for the live calls every second. A websocket would tell sooner, but a browser can send no token with one other than in its
 * address, which ends up in logs; and each answer here is the whole truth, so nothing can be missed.
 */
import { batch, computed, signal } from "@preact/signals";
import { Refusal } from "../api";
import { type Call, type Entry, type Flow, type Session, type Version, Reader } from "./api";

const EVERY_MS = 1000;
const PATIENT_MS = 4000;
const KEPT = "callwright_token";

export const signedIn = signal(false);
export const flows = signal<Flow[] | null>(null);
export const versions = signal<Version[]>([]);
export const calls = signal<Call[]>([]);
export const picture = signal<{ version: Version; svg: string } | null>(null);
export const session = signal<Session | null>(null);
export const timeline = signal<Entry[] | null>(null);
export const trouble = signal("");
export const clock = signal(Date.now() / 1000);

/** What the person chose. `version` null follows the one that callers get. */
export const flow = signal(decodeURIComponent(location.hash.slice(1)));
export const version = signal<number | null>(null);
export const step = signal("");
export const call = signal<Call | null>(null);

/** Live calls of this flow: the caller is still on the line. */
export const here = computed(() => calls.value.filter((each) => each.flow === flow.value && each.state !== "wrap_up"));
export const drawn = computed(() => here.value.filter((each) => each.version === picture.value?.version.hash));
export const bySteps = computed(() => grouped(drawn.value, (each) => each.step));
export const elsewhere = computed(() => grouped(here.value.filter((each) => each.version !== picture.value?.version.hash), (each) => each.version));

let reader: Reader | null = null;
let round = 0;
let timer = 0;

export function begin(): void {
  const again = () => void (reader !== null && look());
  window.addEventListener("online", again);
  document.addEventListener("visibilitychange", again);
  const token = sessionStorage.getItem(KEPT);
  if (token !== null) void enter(token);
}

export async function enter(token: string): Promise<void> {
  sessionStorage.setItem(KEPT, token);
  reader = new Reader(token);
  trouble.value = "";
  await look();
}

export function leave(why = ""): void {
  sessionStorage.removeItem(KEPT);
  window.clearTimeout(timer);
  reader = null;
  batch(() => {
    for (const list of [versions, calls]) list.value = [];
    for (const one of [flows, picture, session, timeline, call]) one.value = null;
    signedIn.value = false;
    step.value = "";
    trouble.value = why;
  });
}

export function chooseFlow(name: string): void {
  batch(() => {
    flow.value = name;
    versions.value = [];
    picture.value = null;
    chooseVersion(null);
  });
  history.replaceState(null, "", `#${encodeURIComponent(name)}`);
}

export function chooseVersion(number: number | null): void {
  version.value = number;
  chooseStep("");
  void look();
}

export function chooseStep(name: string): void {
  step.value = name;
  chooseCall(null);
}

export function chooseCall(chosen: Call | null): void {
  batch(() => {
    call.value = chosen;
    session.value = null;
    timeline.value = null;
  });
  if (chosen !== null) void look();
}

export async function showTimeline(): Promise<void> {
  await attempt(async (asked) => {
    const chosen = call.value;
    const entries = chosen === null ? null : await asked.timeline(chosen.id);
    if (chosen?.id === call.value?.id) timeline.value = entries;
  });
}

/** Read everything that is shown, and do so again in a second. */
async function look(): Promise<void> {
  window.clearTimeout(timer);
  const mine = ++round;
  const well = document.hidden || (await attempt(read));
  if (mine === round && reader !== null) timer = window.setTimeout(() => void look(), well ? EVERY_MS : PATIENT_MS);
}

async function read(asked: Reader): Promise<void> {
  const [found, live] = await Promise.all([asked.flows(), asked.calls()]);
  if (asked !== reader) return;
  clock.value = Date.now() / 1000 + asked.ahead;
  signedIn.value = true;
  flows.value = found;
  calls.value = live;
  if (!found.some((each) => each.name === flow.value)) flow.value = busiest(found, live);
  if (flow.value !== "") await readFlow(asked, flow.value);
  await readCall(asked);
}

async function readFlow(asked: Reader, name: string): Promise<void> {
  const found = await asked.versions(name);
  const wanted = version.value ?? flows.value?.find((each) => each.name === name)?.active;
  const shown = found.find((each) => each.number === wanted);
  const known = shown === undefined || picture.value?.version.hash === shown.hash;
  const svg = known ? "" : await asked.picture(name, shown.number);
  if (asked !== reader || name !== flow.value) return;
  versions.value = found;
  if (!known) picture.value = { version: shown, svg };
}

async function readCall(asked: Reader): Promise<void> {
  const chosen = call.value;
  if (chosen === null) return;
  const now = calls.value.find((each) => each.id === chosen.id);
  const found = now === undefined ? null : await asked.session(chosen.id).catch(unlessEnded);
  if (asked !== reader || call.value?.id !== chosen.id) return;
  batch(() => {
    call.value = now ?? { ...chosen, state: "ended" };
    if (found !== null) session.value = found;
  });
  if (timeline.value !== null && (now === undefined ? chosen.state !== "ended" : now.step !== chosen.step)) await showTimeline();
}

/** Calls end between two questions. */
function unlessEnded(error: unknown): null {
  if (error instanceof Refusal && (error.status === 404 || error.status === 409)) return null;
  throw error;
}

async function attempt(work: (asked: Reader) => Promise<void>): Promise<boolean> {
  const asked = reader;
  if (asked === null) return false;
  try {
    await work(asked);
    if (asked === reader) trouble.value = "";
    return true;
  } catch (error) {
    if (asked !== reader) return false;
    if (error instanceof Refusal && error.status === 401) leave("This token is not known here.");
    else if (error instanceof Refusal && error.status === 403) leave("This token is an agent's; the flows are for supervisors and administrators.");
    else trouble.value = problem(error);
    return false;
  }
}

function problem(error: unknown): string {
  if (!(error instanceof Refusal)) return "Something went wrong on this page.";
  if (error.status !== 0) return error.message;
  const asOf = new Date(clock.value * 1000).toLocaleTimeString();
  return `The call centre cannot be reached.${signedIn.value ? ` What is shown is as of ${asOf}.` : ""}`;
}

/** The flow with most live calls; the first one when there are none. */
function busiest(found: Flow[], live: Call[]): string {
  const many = (name: string) => live.filter((each) => each.flow === name).length;
  return [...found].sort((a, b) => many(b.name) - many(a.name))[0]?.name ?? "";
}

function grouped(list: Call[], by: (call: Call) => string): Map<string, Call[]> {
  const groups = new Map<string, Call[]>();
  for (const each of list) groups.set(by(each), [...(groups.get(by(each)) ?? []), each]);
  return groups;
}
