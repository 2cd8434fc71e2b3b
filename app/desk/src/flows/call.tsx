/** One call: how it stands, the variables of its session, and what has happened in it. */
import type { Call, Entry } from "./api";
import { clock, session, showTimeline, timeline } from "./state";
import { masked, said, since, stateOf } from "./words";

export function CallPanel({ call, back }: { call: Call; back: () => void }) {
  return (
    <>
      <button class="quiet back" onClick={back}>
        ‹ {call.step || "All steps"}
      </button>
      <h2>{masked(call.ani)}</h2>
      <dl class="facts">
        <Fact name="State" value={stateOf(call)} />
        <Fact name="Step" value={call.step} />
        {call.state !== "ended" && <Fact name="At this step" value={since(call.entered, clock.value)} />}
        {call.state !== "ended" && <Fact name="In the call" value={since(call.arrived, clock.value)} />}
        <Fact name="Dialled" value={call.dnis} />
        <Fact name="Queue" value={call.queue + (call.position === null ? "" : `, place ${call.position}`)} />
        <Fact name="Agent" value={call.agent} />
        <Fact name="Id" value={call.id} />
      </dl>
      {timeline.value === null ? (
        <>
          <button onClick={() => void showTimeline()}>Timeline</button>
          <Variables number={call.ani} />
        </>
      ) : (
        <>
          <button onClick={() => (timeline.value = null)}>Variables</button>
          <Timeline entries={timeline.value} call={call} />
        </>
      )}
    </>
  );
}

function Fact({ name, value }: { name: string; value: string }) {
  if (value === "") return null;
  return (
    <div>
      <dt>{name}</dt>
      <dd>{value}</dd>
    </div>
  );
}

function Variables({ number }: { number: string }) {
  const spaces = Object.entries(session.value?.variables ?? {}).filter(([, values]) => Object.keys(values).length > 0);
  return (
    <section class="variables" aria-label="Variables">
      {spaces.map(([space, values]) => (
        <div key={space}>
          <h3>{space}</h3>
          <dl class="facts">
            {Object.entries(values).map(([name, value]) => (
              <Fact key={name} name={name} value={said(value, number) || "(empty)"} />
            ))}
          </dl>
        </div>
      ))}
      {session.value !== null && spaces.length === 0 && <p class="hint">No variable is set yet.</p>}
    </section>
  );
}

const SHOWN_BEFORE = ["at", "kind", "type", "call", "channel", "uniqueid", "linkedid"];

function Timeline({ entries, call }: { entries: Entry[]; call: Call }) {
  return (
    <ol class="timeline" aria-label="Timeline">
      {entries.map((entry, n) => {
        const more = Object.entries(entry).filter(([key, value]) => !SHOWN_BEFORE.includes(key) && value !== "" && value !== null);
        return (
          <li key={n} class={entry.kind}>
            <time>{`+${(entry.at - call.arrived).toFixed(1)}`}</time>
            <b>{entry.type}</b>
            <span>{more.map(([key, value]) => `${key} ${said(value, call.ani)}`).join(" · ")}</span>
          </li>
        );
      })}
    </ol>
  );
}
