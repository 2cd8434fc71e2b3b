/**
 * The live link to the call centre: a websocket that comes back by itself.
 *
 * Every message carries the whole state, so a page that was away is right again with the first one. A gap in `seq`, or silence
 * for longer than two beats, means that the link is not to be trusted: it is opened anew.
 */
import type { DeskMessage, Shown } from "./api";

const SILENCE_MS = 12_000;
const LONGEST_PAUSE_MS = 5_000;
const SIGNED_OUT = 4401;

export interface Listener {
  message(message: DeskMessage): void;
  up(): void;
  down(): void;
  signedOut(): void;
}

export class Link {
  private socket: WebSocket | null = null;
  private seq = -1;
  private failures = 0;
  private silence = 0;
  private again = 0;
  private stopped = false;

  constructor(private readonly listener: Listener) {
    window.addEventListener("online", this.now);
    window.addEventListener("offline", this.lost);
    this.open();
  }

  send(message: Shown): void {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  stop(): void {
    this.stopped = true;
    window.removeEventListener("online", this.now);
    window.removeEventListener("offline", this.lost);
    clearTimeout(this.again);
    this.drop();
  }

  private open(): void {
    const url = new URL("/v1/desk", location.href);
    url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(url);
    this.socket = socket;
    this.listen();
    socket.onmessage = (event) => this.heard(JSON.parse(String(event.data)) as DeskMessage);
    socket.onclose = (event) => {
      if (event.code === SIGNED_OUT) this.listener.signedOut();
      else this.lost();
    };
  }

  private heard(message: DeskMessage): void {
    this.listen();
    const follows = message.type === "snapshot" || message.seq === this.seq + (message.type === "beat" ? 0 : 1);
    if (!follows) return this.lost();
    this.seq = message.seq;
    if (message.type === "snapshot") {
      this.failures = 0;
      this.listener.up();
    }
    this.listener.message(message);
  }

  private listen(): void {
    clearTimeout(this.silence);
    this.silence = window.setTimeout(this.lost, SILENCE_MS);
  }

  private readonly lost = (): void => {
    this.drop();
    if (this.stopped) return;
    this.listener.down();
    const pause = Math.min(LONGEST_PAUSE_MS, 250 * 2 ** this.failures++);
    clearTimeout(this.again);
    this.again = window.setTimeout(() => this.open(), pause * (0.5 + Math.random() / 2));
  };

  private readonly now = (): void => {
    this.failures = 0;
    this.lost();
  };

  private drop(): void {
    clearTimeout(this.silence);
    if (this.socket === null) return;
    this.socket.onmessage = null;
    this.socket.onclose = null;
    this.socket.close();
    this.socket = null;
  }
}
