/** The call in hand: who it is, what they want, what can be done now. */
import { useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useLayoutEffect, useRef } from "preact/hooks";
import type { Card, Hand } from "./api";
import { Skills } from "./desk";
import { act, clock, shown, usable } from "./state";
import { duration, plain } from "./words";

/** The phone waits 150 ms for us; a page that is covered by another window is not painted at all. */
const PAINT_MS = 60;

export function HandPanel({ hand }: { hand: Hand }) {
  useLayoutEffect(() => {
    if (hand.phase === "offered" && hand.offer !== "") return painted(() => shown(hand));
  }, [hand.offer, hand.phase]);
  const { card } = hand;
  const reference = card.reference || card.contact?.reference;
  const collected = Object.entries(card.collected).filter(([, value]) => value !== reference);
  return (
    <section class="panel" aria-label="Call in hand">
      <Phase hand={hand} />
      <Caller card={card} />
      <dl class="facts">
        <Fact name="Queue">{card.queue_title || card.queue}</Fact>
        {Object.keys(card.skills).length > 0 && (
          <Fact name="Skills">
            <Skills skills={card.skills} title="Skills asked for" />
          </Fact>
        )}
        <Fact name="Waited">{card.waited > 0 ? duration(card.waited) : ""}</Fact>
        <Fact name="Reference">{reference}</Fact>
        {collected.map(([name, value]) => (
          <Fact key={name} name={plain(name)}>
            {typeof value === "string" || typeof value === "number" ? String(value) : JSON.stringify(value)}
          </Fact>
        ))}
      </dl>
      <Verbs hand={hand} />
    </section>
  );
}

/**
 * Call back once what stands in the document by now has been painted; where nothing is painted (a tab in the background), at once or
 * after a moment. Returns how to take it back.
 */
function painted(then: () => void): () => void {
  if (document.visibilityState === "hidden") {
    then();
    return () => undefined;
  }
  let over = false;
  const once = () => {
    if (!over) then();
    over = true;
  };
  requestAnimationFrame(() => setTimeout(once));
  setTimeout(once, PAINT_MS);
  return () => {
    over = true;
  };
}

function Phase({ hand }: { hand: Hand }) {
  const [title, hint] = {
    offered: hand.ringing ? ["Your phone is ringing", "Answer at your phone"] : ["Call for you", "Your phone is about to ring"],
    connecting: ["Connecting", "One moment"],
    talking: ["Talking", ""],
    held: ["On hold", "The caller hears music"],
    wrap_up: ["Wrap-up", ""],
  }[hand.phase] as [string, string];
  const left = hand.until === null ? null : hand.until - clock.value;
  const total = hand.until !== null && hand.since !== null ? hand.until - hand.since : 0;
  const time = hand.phase === "wrap_up" && left !== null ? left : hand.since === null ? 0 : clock.value - hand.since;
  return (
    <div class={`phase ${hand.phase}${hand.ringing ? " ringing" : ""}`}>
      <div role="status">
        <span class="lamp" aria-hidden="true" />
        <h1>{title}</h1>
        {hint !== "" && <p>{hint}</p>}
      </div>
      <span class="timer" role="timer">
        {duration(time)}
      </span>
      {hand.phase === "wrap_up" && left !== null && total > 0 && (
        <progress max={total} value={Math.max(0, left)} aria-label="Time left for wrap-up" />
      )}
    </div>
  );
}

function Caller({ card }: { card: Card }) {
  const name = [card.contact?.first_name, card.contact?.last_name].filter(Boolean).join(" ");
  return (
    <div class="caller">
      <h2>{name || "Unknown caller"}</h2>
      <Levels card={card} />
      <p class="number">{card.caller || "Number withheld"}</p>
      {name === "" && card.name !== "" && (
        <p class="given">
          Name on the line: <q>{card.name}</q>
        </p>
      )}
    </div>
  );
}

/** What decides how the caller is served: subscription level, and what the record says besides. */
function Levels({ card }: { card: Card }) {
  const levels = [
    card.contact?.premium === true && card.tier !== "premium" && ["premium", "Premium"],
    card.tier !== "" && [card.tier === "premium" ? "premium" : "", plain(card.tier)],
    card.contact?.late_payment === true && ["late", "Late payment"],
  ].filter((level) => level !== false);
  return (
    <p class="levels">
      {levels.map(([look, name]) => (
        <span key={name} class={`tier ${look}`}>
          {name}
        </span>
      ))}
    </p>
  );
}

function Fact({ name, children }: { name: string; children: ComponentChildren }) {
  if (children === "" || children === undefined || children === null) return null;
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

function Verbs({ hand }: { hand: Hand }) {
  const call = { call: hand.call };
  switch (hand.phase) {
    case "offered":
      return (
        <div class="verbs">
          <button class="danger" disabled={!usable.value} onClick={() => void act("reject", call)}>
            Reject
          </button>
        </div>
      );
    case "talking":
    case "held":
      return (
        <div class="verbs">
          <button class="danger solid" disabled={!usable.value} title="Alt+H" onClick={() => void act("hang-up", call)}>
            Hang up
          </button>
        </div>
      );
    case "wrap_up":
      return <WrapUp hand={hand} />;
    default:
      return null;
  }
}

function WrapUp({ hand }: { hand: Hand }) {
  const disposition = useSignal("");
  const remarks = useSignal("");
  const first = useRef<HTMLInputElement>(null);
  useLayoutEffect(() => first.current?.focus(), []);
  const done = (event: Event) => {
    event.preventDefault();
    void act("wrap-up-done", { call: hand.call, disposition: disposition.value, remarks: remarks.value });
  };
  const keys = (event: KeyboardEvent) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && disposition.value !== "") done(event);
  };
  return (
    <form class="wrap-up" onSubmit={done} onKeyDown={keys}>
      <fieldset>
        <legend>Outcome</legend>
        {hand.card.dispositions.map((d, i) => (
          <label key={d}>
            <input
              ref={i === 0 ? first : null}
              type="radio"
              name="disposition"
              value={d}
              required
              checked={disposition.value === d}
              onChange={() => (disposition.value = d)}
            />
            <span>{plain(d)}</span>
          </label>
        ))}
      </fieldset>
      <label>
        Remarks
        <textarea name="remarks" rows={3} maxLength={4000} value={remarks} onInput={(e) => (remarks.value = e.currentTarget.value)} />
      </label>
      <button class="primary" disabled={!usable.value} title="Ctrl+Enter">
        Done
      </button>
    </form>
  );
}
