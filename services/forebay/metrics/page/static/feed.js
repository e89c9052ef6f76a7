// The stream of changes. It ends while nobody looks at the page, so that nothing is asked for nobody.

const HIDDEN_MS = 10_000;
const AGAIN_MS = 3_000;

export class Feed {
  /** Calls `onMessage(message, isWhole)` for each change, `onStatus(isConnected)` when the connection comes or goes. */
  constructor(onMessage, onStatus) {
    this.onMessage = onMessage;
    this.onStatus = onStatus;
    document.addEventListener("visibilitychange", () => this.look());
    this.open();
  }

  open() {
    clearTimeout(this.timer);
    if (this.source) return;
    const source = (this.source = new EventSource("events"));
    for (const name of ["whole", "delta"]) {
      source.addEventListener(name, (event) => {
        this.onStatus(true);
        this.onMessage(JSON.parse(event.data), name === "whole");
      });
    }
    source.addEventListener("error", () => {
      this.onStatus(false);
      // The browser tries again by itself, but not after an answer that it does not like.
      if (source.readyState === EventSource.CLOSED) {
        this.close();
        this.timer = setTimeout(() => this.open(), AGAIN_MS);
      }
    });
  }

  close() {
    this.source?.close();
    this.source = null;
  }

  look() {
    clearTimeout(this.timer);
    if (document.hidden) this.timer = setTimeout(() => this.close(), HIDDEN_MS);
    else this.open();
  }
}
