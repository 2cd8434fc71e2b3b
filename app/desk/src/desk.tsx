/** The whole page: the door, the bar on top, and what is in hand (or that nothing is). */
import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { Brand } from "./brand";
import { HandPanel } from "./hand";
import { Record } from "./record";
import { act, agent, busy, clock, hand, linked, notice, session, signIn, signOut, usable } from "./state";
import { duration, plain, skillName } from "./words";

const REASONS = ["break", "lunch", "meeting", "training", "other_work"];

export function Desk() {
  useTitle();
  useShortcuts();
  if (session.value === undefined) return <p class="loading">Opening the desk…</p>;
  if (session.value === null) return <Door />;
  return (
    <div class="desk" data-mood={mood()}>
      <Bar />
      <Notices />
      <main>{hand.value === null ? <Idle /> : <InHand />}</main>
    </div>
  );
}

/** One word that colours the page. */
function mood(): string {
  return hand.value?.phase ?? agent.value?.presence ?? "signed_out";
}

function Door() {
  const name = useSignal("");
  const pin = useSignal("");
  const submit = (event: Event) => {
    event.preventDefault();
    void signIn(name.value.trim(), pin.value);
  };
  return (
    <main class="door">
      <form onSubmit={submit} aria-labelledby="door-title">
        <Brand />
        <h1 id="door-title">Sign in to your desk</h1>
        <label>
          Agent
          <input name="agent" autocomplete="username" required autofocus value={name} onInput={(e) => (name.value = e.currentTarget.value)} />
        </label>
        <label>
          PIN
          <input name="pin" type="password" autocomplete="current-password" required value={pin} onInput={(e) => (pin.value = e.currentTarget.value)} />
        </label>
        <button class="primary" disabled={busy}>
          Sign in
        </button>
        <p class="notice" role="alert">
          {notice}
        </p>
      </form>
    </main>
  );
}

function Bar() {
  const me = agent.value;
  return (
    <header class="bar">
      <Brand />
      <span class={`link ${linked.value}`} role="status">
        {{ up: "Connected", connecting: "Connecting…", lost: "Connection lost" }[linked.value]}
      </span>
      <span class="who">
        <strong>{me?.name || session.value?.agent}</strong>
        {me !== null && <PhoneState phone={me.phone} />}
      </span>
      <Presence />
      <button class="quiet" disabled={!usable.value || hand.value !== null} onClick={() => void signOut()}>
        Sign out
      </button>
    </header>
  );
}

function PhoneState({ phone }: { phone: string }) {
  if (phone === "") return null;
  return <span class={`phone ${phone}`}>{{ reachable: "Phone ready", in_use: "Phone in use", unreachable: "Phone unreachable" }[phone] ?? phone}</span>;
}

function Presence() {
  const reason = useSignal(REASONS[0] ?? "");
  const after = { not_ready: "Not ready after this call", sign_out: "Signed out after this call" }[agent.value?.pending ?? ""];
  if (after !== undefined)
    return (
      <div class="presence">
        <span class="after">{after}</span>
        <button disabled={!usable.value} title="Alt+R" onClick={() => void act("ready", {})}>
          Stay ready
        </button>
      </div>
    );
  switch (agent.value?.presence) {
    case "ready":
      return (
        <div class="presence">
          <select aria-label="Reason for not ready" value={reason} onChange={(e) => (reason.value = e.currentTarget.value)}>
            {REASONS.map((r) => (
              <option key={r} value={r}>
                {plain(r)}
              </option>
            ))}
          </select>
          <button disabled={!usable.value} title="Alt+R" onClick={() => void act("not-ready", { reason: reason.value })}>
            Not ready
          </button>
        </div>
      );
    case "not_ready":
      return (
        <button class="primary" disabled={!usable.value} title="Alt+R" onClick={() => void act("ready", {})}>
          Ready
        </button>
      );
    case "signed_out":
      return (
        <button class="primary" disabled={!usable.value} onClick={() => void act("sign-in", {})}>
          Start work
        </button>
      );
    default:
      return null;
  }
}

function Notices() {
  return (
    <div class="notices">
      {linked.value === "lost" && (
        <p class="lost" role="alert">
          The connection is lost. Calls go on at your phone; this page comes back by itself.
        </p>
      )}
      <p class="notice" role="alert">
        {notice}
      </p>
    </div>
  );
}

function Idle() {
  const me = agent.value;
  if (me === null) return <p class="loading">Connecting…</p>;
  const heading = { ready: "Ready for a call", not_ready: "Not ready", signed_out: "Signed out" }[me.presence] ?? me.presence;
  const hint = {
    ready: "The next call appears here before your phone rings.",
    not_ready: me.reason === "" ? "Press Ready when you want calls." : `${plain(me.reason)}. Press Ready when you want calls.`,
    signed_out: "Start work to be counted in.",
  }[me.presence];
  return (
    <section class="idle" aria-live="polite">
      <span class="lamp" aria-hidden="true" />
      <h1>{heading}</h1>
      {me.since !== null && <p class="timer">{duration(clock.value - me.since)}</p>}
      <p>{hint}</p>
      <Skills skills={me.skills} title="Your skills" />
    </section>
  );
}

/** Skills with levels, most needed first. */
export function Skills({ skills, title }: { skills: { [name: string]: number }; title: string }) {
  const found = Object.entries(skills).sort((a, b) => b[1] - a[1]);
  if (found.length === 0) return null;
  return (
    <ul class="skills" aria-label={title}>
      {found.map(([name, level]) => (
        <li key={name} title={name}>
          {skillName(name)} <b>{level}</b>
        </li>
      ))}
    </ul>
  );
}

function InHand() {
  const inHand = hand.value;
  if (inHand === null) return null;
  return (
    <div class="in-hand" key={inHand.call}>
      <HandPanel hand={inHand} />
      <Record contact={inHand.card.contact} />
    </div>
  );
}

function useTitle(): void {
  const title = { offered: "☎ Call for you", connecting: "Connecting", talking: "● Talking", held: "On hold", wrap_up: "Wrap-up" };
  const now = hand.value === null ? plain(agent.value?.presence ?? "desk") : title[hand.value.phase];
  useEffect(() => {
    document.title = `${now} · Callwright`;
  }, [now]);
}

function useShortcuts(): void {
  useEffect(() => {
    const pressed = (event: KeyboardEvent) => {
      if (!event.altKey || event.ctrlKey || event.metaKey || !usable.value) return;
      const inHand = hand.value;
      if (event.code === "KeyR" && agent.value?.presence === "ready" && agent.value.pending === "") void act("not-ready", { reason: "" });
      else if (event.code === "KeyR" && agent.value?.presence !== "signed_out") void act("ready", {});
      else if (event.code === "KeyH" && (inHand?.phase === "talking" || inHand?.phase === "held")) void act("hang-up", { call: inHand.call });
      else return;
      event.preventDefault();
    };
    window.addEventListener("keydown", pressed);
    return () => window.removeEventListener("keydown", pressed);
  }, []);
}
