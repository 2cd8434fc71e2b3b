/** What this page reads of the public API, with a bearer token: the desk's cookie is an agent's, and flows are for staff. */
import { answer } from "../api";
import type { components } from "../api.gen";

type Schemas = components["schemas"];
export type Call = Schemas["Call"];
export type Flow = Schemas["Flow"];
export type Version = Schemas["FlowVersion"];
export type Session = Schemas["LiveSession"];
export type Entry = Schemas["TimelineEntry"];

/** The most live calls that the API tells at once. */
export const MOST_CALLS = 1000;

export class Reader {
  /** Seconds that the centre's clock is ahead of this one's, to about a second. */
  ahead = 0;

  constructor(private readonly token: string) {}

  private async get(path: string): Promise<Response> {
    const response = await answer(path, { credentials: "omit", headers: { Authorization: `Bearer ${this.token}` } });
    const date = Date.parse(response.headers.get("Date") ?? "");
    if (!Number.isNaN(date)) this.ahead = date / 1000 + 0.5 - Date.now() / 1000;
    return response;
  }

  private async json<T>(path: string): Promise<T> {
    return (await (await this.get(path)).json()) as T;
  }

  flows = async () => (await this.json<Schemas["FlowList"]>("/v1/flows")).flows;
  versions = async (flow: string) => (await this.json<Schemas["FlowVersions"]>(`${at(flow)}/versions`)).versions;
  picture = async (flow: string, version: number) => (await this.get(`${at(flow)}/picture?version=${version}`)).text();
  calls = async () => (await this.json<Schemas["CallList"]>(`/v1/calls?state=active&limit=${MOST_CALLS}`)).calls;
  session = (call: string) => this.json<Session>(`/v1/sessions/${encodeURIComponent(call)}`);
  timeline = async (call: string) => (await this.json<Schemas["Timeline"]>(`/v1/calls/${encodeURIComponent(call)}/timeline`)).entries;
}

function at(flow: string): string {
  return `/v1/flows/${encodeURIComponent(flow)}`;
}
