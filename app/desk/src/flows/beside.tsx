/** Beside the picture: where the calls are, then the calls of one step, then one call. */
import { useEffect } from "preact/hooks";
import type { Call } from "./api";
import { CallPanel } from "./call";
import { bySteps, call, chooseCall, chooseStep, chooseVersion, clock, drawn, elsewhere, picture, step, versions } from "./state";
import { count, masked, since, stateOf } from "./words";

export function Beside() {
  useEffect(() => {
    const pressed = (event: KeyboardEvent) => {
      if (event.key === "Escape") back();
    };
    window.addEventListener("keydown", pressed);
    return () => window.removeEventListener("keydown", pressed);
  }, []);
  return (
    <aside aria-label="Live calls">
      {call.value !== null ? <CallPanel call={call.value} back={back} /> : step.value !== "" ? <Step name={step.value} /> : <Everywhere />}
    </aside>
  );
}

function back(): void {
  if (call.value !== null) chooseCall(null);
  else chooseStep("");
}

function Everywhere() {
  const steps = [...bySteps.value].sort(([, a], [, b]) => b.length - a.length);
  return (
    <>
      <h2>{picture.value === null ? "Live calls" : `Version ${picture.value.version.number}: ${count(drawn.value.length, "live call")}`}</h2>
      {steps.length === 0 && <p class="hint">Nobody is in this version at the moment. Calls appear on the boxes as they come.</p>}
      {steps.length > 0 && <p class="hint">At each step, and how long the first of them has been there.</p>}
      <ul class="rows" aria-label="Steps with calls">
        {steps.map(([name, those]) => (
          <li key={name}>
            <button disabled={name === ""} onClick={() => chooseStep(name)}>
              <b class="many">{those.length}</b>
              <span class="what">{name === "" ? "not begun" : <Name of={name} />}</span>
              <span class="time" title="the longest at this step">
                {since(longest(those), clock.value)}
              </span>
            </button>
          </li>
        ))}
      </ul>
      <Elsewhere />
    </>
  );
}

/** Calls end on the version they began with: those of other versions are not on this picture. */
function Elsewhere() {
  if (elsewhere.value.size === 0) return null;
  return (
    <>
      <h3>On other versions</h3>
      <ul class="rows" aria-label="Other versions with calls">
        {[...elsewhere.value].map(([hash, those]) => {
          const found = versions.value.find((each) => each.hash === hash);
          return (
            <li key={hash}>
              <button disabled={found === undefined} onClick={() => chooseVersion(found?.number ?? null)}>
                <b class="many other">{those.length}</b>
                <span class="what">{found === undefined ? `unknown version ${hash.slice(0, 8)}` : `version ${found.number}, ${found.state.replace("_", " ")}`}</span>
              </button>
            </li>
          );
        })}
      </ul>
    </>
  );
}

function Step({ name }: { name: string }) {
  const those = bySteps.value.get(name) ?? [];
  return (
    <>
      <Back to="All steps" />
      <h2>
        <Name of={name} />
      </h2>
      <p class="hint">{those.length === 0 ? "No live call is at this step." : count(those.length, "live call")}</p>
      <ul class="rows" aria-label={`Calls at ${name}`}>
        {those.map((each) => (
          <li key={each.id}>
            <button onClick={() => chooseCall(each)}>
              <span class="what">{masked(each.ani)}</span>
              <span class="state">{stateOf(each)}</span>
              <span class="time" title="at this step">
                {since(each.entered, clock.value)}
              </span>
            </button>
          </li>
        ))}
      </ul>
    </>
  );
}

/** A step's name, which may be broken after an underscore. */
function Name({ of }: { of: string }) {
  return (
    <>
      {of.split(/(?<=[_.])/).map((part, n) => (
        <span key={n}>
          {part}
          <wbr />
        </span>
      ))}
    </>
  );
}

function Back({ to }: { to: string }) {
  return (
    <button class="quiet back" onClick={back}>
      ‹ {to}
    </button>
  );
}

function longest(those: Call[]): number | null {
  return those.reduce<number | null>((first, each) => (each.entered !== null && (first === null || each.entered < first) ? each.entered : first), null);
}
