/** How things are said on the page of the flows. */
import { duration } from "../words";

export function count(number: number, what: string): string {
  return `${number === 0 ? "no" : number} ${what}${number === 1 ? "" : "s"}`;
}

const STATES: { [state: string]: string } = { flow: "in the flow", offered: "offered to an agent" };

export function stateOf(call: { state: string }): string {
  return STATES[call.state] ?? call.state.replaceAll("_", " ");
}

/** A caller's number without what lies between its beginning and its last three digits. */
export function masked(number: string): string {
  if (number === "") return "withheld";
  return number.length <= 5 ? `…${number.slice(-2)}` : `${number.slice(0, 3)}…${number.slice(-3)}`;
}

/** Any value as text, with this number masked in it. */
export function said(value: unknown, number: string): string {
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return number === "" ? text : text.replaceAll(number, masked(number));
}

export function since(time: number | null, now: number): string {
  return time === null ? "" : duration(now - time);
}
