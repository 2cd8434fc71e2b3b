/** What the page knows, and what the agent can do about it. */
import { computed, signal } from "@preact/signals";
import { type Agent, type DeskMessage, type Hand, Refusal, type Session, type Verbs, session as sessions, verb } from "./api";
import { Link } from "./link";

export const session = signal<Session | null | undefined>(undefined);
export const agent = signal<Agent | null>(null);
export const hand = signal<Hand | null>(null);
export const linked = signal<"connecting" | "up" | "lost">("connecting");
export const notice = signal<string>("");
export const busy = signal(false);

/** The centre's clock, in seconds since the epoch; ticks several times a second. */
export const clock = signal(Date.now() / 1000);
let ahead = 0;
window.setInterval(() => {
  clock.value = Date.now() / 1000 + ahead;
}, 250);

export const usable = computed(() => linked.value === "up" && !busy.value);

let link: Link | null = null;

function took(message: DeskMessage): void {
  ahead = message.now - Date.now() / 1000;
  clock.value = message.now;
  agent.value = message.agent;
  hand.value = message.hand;
  if (message.type === "withdrawn") notice.value = `The offer was withdrawn: ${message.reason.replaceAll("_", " ") || "no reason given"}.`;
  if (message.type === "offer") notice.value = "";
}

function connect(found: Session): void {
  session.value = found;
  linked.value = "connecting";
  link?.stop();
  link = new Link({
    message: took,
    up: () => {
      linked.value = "up";
    },
    down: () => {
      linked.value = "lost";
      void probe();
    },
    signedOut: () => leave("You were signed out. Please sign in again."),
  });
}

function leave(why: string): void {
  link?.stop();
  link = null;
  session.value = null;
  agent.value = null;
  hand.value = null;
  notice.value = why;
}

/** A socket that cannot be opened does not say why: ask whether our session still holds. */
async function probe(): Promise<void> {
  try {
    await sessions.find();
  } catch (error) {
    if (error instanceof Refusal && error.status === 401) leave("Your session has ended. Please sign in again.");
  }
}

async function attempt(work: () => Promise<unknown>): Promise<void> {
  busy.value = true;
  try {
    await work();
    notice.value = "";
  } catch (error) {
    notice.value = error instanceof Refusal ? error.message : "Something went wrong on this page.";
  } finally {
    busy.value = false;
  }
}

export async function begin(): Promise<void> {
  try {
    connect(await sessions.find());
  } catch {
    session.value = null;
  }
}

export function signIn(name: string, pin: string): Promise<void> {
  return attempt(async () => {
    const found = await sessions.begin(name, pin);
    await verb(found.agent, "sign-in", {}).catch((error: unknown) => {
      if (!(error instanceof Refusal && error.status === 409)) throw error;
    });
    connect(found);
  });
}

export function signOut(): Promise<void> {
  return attempt(async () => {
    const me = session.value?.agent;
    if (me !== undefined && agent.value?.presence !== "signed_out") await verb(me, "sign-out", {});
    link?.stop();
    await sessions.end();
    leave("");
  });
}

export function act<V extends keyof Verbs>(name: V, body: Verbs[V]): Promise<void> {
  return attempt(async () => {
    const me = session.value?.agent;
    if (me !== undefined) await verb(me, name, body);
  });
}

/** Tell the centre that this offer stands on the screen, which lets the phone ring. */
export function shown(offer: Hand): void {
  link?.send({ type: "shown", offer: offer.offer, call: offer.call });
}
