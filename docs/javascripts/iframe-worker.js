// From a file, browsers start no worker: there the search runs in a hidden frame instead.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      this.inner = new Promise((ready) => {
        frame.onload = () => {
          const inside = frame.contentWindow;
          inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
          const load = (src) =>
            new Promise((loaded, failed) => {
              const script = inside.document.createElement("script");
              Object.assign(script, { src, onload: loaded, onerror: failed });
              inside.document.head.append(script);
            });
          inside.importScripts = async (...all) => {
            for (const one of all) await load(new URL(one, url).href);
          };
          load(url).then(() => ready(inside));
        };
      });
      document.documentElement.append(frame);
    }

    postMessage(data) {
      this.inner.then((inside) => inside.dispatchEvent(new inside.MessageEvent("message", { data })));
    }
  };
}
