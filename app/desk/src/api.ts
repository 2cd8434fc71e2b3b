/** The public API, as this page uses it. Types come from the API's own OpenAPI document. */
import type { components } from "./api.gen";

type Schemas = components["schemas"];
export type Agent = Schemas["Agent"];
export type Card = Schemas["Card"];
export type Contact = Schemas["Contact"];
export type Hand = Schemas["Hand"];
export type DeskMessage = Schemas["DeskMessage"];
export type Session = Schemas["Session"];
export type Shown = Schemas["Shown"];

/** A refusal of the API: `kind` is stable (`illegal-move`), `message` is for the agent. */
export class Refusal extends Error {
  constructor(
    readonly status: number,
    readonly kind: string,
    message: string,
  ) {
    super(message);
  }
}

const UNREACHABLE = "The call centre cannot be reached. Your phone is not affected.";

/** The answer to a request; throws a `Refusal`, with status 0 where there is no answer. */
export async function answer(path: string, init: RequestInit): Promise<Response> {
  const response = await fetch(path, { signal: AbortSignal.timeout(10_000), ...init }).catch(() => {
    throw new Refusal(0, "unreachable", UNREACHABLE);
  });
  if (response.ok) return response;
  const problem = (await response.json().catch(() => null)) as Partial<Schemas["ProblemDocument"]> | null;
  throw new Refusal(response.status, (problem?.type ?? "").replace("urn:callwright:", ""), problem?.detail ?? UNREACHABLE);
}

async function ask<T>(method: string, path: string, body?: object): Promise<T> {
  const init: RequestInit = { method, credentials: "same-origin" };
  if (body !== undefined) {
    init.headers = { "Content-Type": "application/json" };
    init.body = JSON.stringify(body);
  }
  const response = await answer(path, init);
  return (await response.json().catch(() => null)) as T;
}

export const session = {
  find: () => ask<Session>("GET", "/v1/session"),
  begin: (agent: string, pin: string) => ask<Session>("POST", "/v1/session", { agent, pin }),
  end: () => ask<Session>("DELETE", "/v1/session"),
};

/** What an agent can do, by the API's own names. */
export interface Verbs {
  "sign-in": Schemas["Nothing"];
  "sign-out": Schemas["Nothing"];
  ready: Schemas["Nothing"];
  "not-ready": Schemas["NotReady"];
  reject: Schemas["OneCall"];
  "hang-up": Schemas["OneCall"];
  "wrap-up-done": Schemas["WrapUpDone"];
}

export function verb<V extends keyof Verbs>(agent: string, name: V, body: Verbs[V]): Promise<Agent> {
  return ask<Agent>("POST", `/v1/agents/${encodeURIComponent(agent)}/${name}`, body);
}
