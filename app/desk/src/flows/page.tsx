/** The page of the flows: the door, the choice of a flow and of a version, its picture, and beside it where the calls are. */
import { useSignal } from "@preact/signals";
import { Brand } from "../brand";
import { MOST_CALLS } from "./api";
import { Beside } from "./beside";
import { Picture, Zoom } from "./picture";
import { calls, chooseFlow, chooseVersion, enter, flow, flows, here, leave, signedIn, trouble, version, versions } from "./state";
import { count } from "./words";

export function Flows() {
  if (!signedIn.value) return <Door />;
  return (
    <div class="flows">
      <Bar />
      <p class="trouble" role="alert">
        {trouble}
      </p>
      <main>
        {flow.value === "" ? <p class="loading">There is no flow yet.</p> : version.value === null && active() === null ? <Retired /> : <Picture />}
        <Beside />
      </main>
    </div>
  );
}

function Door() {
  const token = useSignal("");
  const submit = (event: Event) => {
    event.preventDefault();
    void enter(token.value.trim());
  };
  return (
    <main class="door">
      <form onSubmit={submit} aria-labelledby="door-title">
        <Brand />
        <h1 id="door-title">Flows and their live calls</h1>
        <label>
          Token
          <input name="token" type="password" autocomplete="off" required autofocus value={token} onInput={(e) => (token.value = e.currentTarget.value)} />
        </label>
        <p class="hint">A supervisor's or administrator's API token. It is kept until this tab is closed.</p>
        <button class="primary">Look</button>
        <p class="notice" role="alert">
          {trouble}
        </p>
      </form>
    </main>
  );
}

function Bar() {
  return (
    <header class="bar">
      <Brand />
      <label>
        Flow
        <select value={flow.value} onChange={(e) => chooseFlow(e.currentTarget.value)}>
          {flows.value?.map((each) => (
            <option key={each.name} value={each.name}>
              {each.title || each.name}
              {each.numbers.length > 0 && ` (${each.numbers.join(", ")})`}
            </option>
          ))}
        </select>
      </label>
      <Versions />
      <Zoom />
      <span class="total" role="status">
        {calls.value.length >= MOST_CALLS ? `the oldest ${MOST_CALLS} live calls are looked at` : count(here.value.length, "live call")}
      </span>
      <button class="quiet" onClick={() => leave()}>
        Leave
      </button>
    </header>
  );
}

function Versions() {
  const running = (hash: string) => here.value.filter((each) => each.version === hash).length;
  return (
    <label>
      Version
      <select
        value={version.value ?? ""}
        onChange={(e) => chooseVersion(e.currentTarget.value === "" ? null : Number(e.currentTarget.value))}
      >
        <option value="">what callers get{active() === null ? "" : ` (${active()})`}</option>
        {versions.value.map((each) => (
          <option key={each.number} value={each.number}>
            {each.number}, {each.state.replace("_", " ")}
            {running(each.hash) > 0 && `: ${count(running(each.hash), "call")}`}
          </option>
        ))}
      </select>
    </label>
  );
}

function Retired() {
  return <p class="loading">Callers get no version of this flow. Choose one above to see it.</p>;
}

function active(): number | null {
  return flows.value?.find((each) => each.name === flow.value)?.active ?? null;
}
