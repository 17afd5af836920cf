/** Name of the frame in which a page on a disk loads itself to learn what is new. */
const NEWEST = "newest data";
const isFrameOfNewest = parent !== window && window.name === NEWEST && location.protocol === "file:";
if (isFrameOfNewest) parent.postMessage(document.getElementById("data").textContent, "*");

/**
 * Return the data of this page as its file has it now. A page on a disk may not read files, not even its own; but it may show
 * itself in a frame, which sends its data.
 */
async function newestData() {
  const address = location.href.split("#")[0];
  if (location.protocol !== "file:") {
    const answer = await fetch(address, { cache: "no-store" });
    if (!answer.ok) throw new Error(`the server answers ${answer.status}`);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    return JSON.parse(page.getElementById("data").textContent);
  }
  const frame = document.createElement("iframe");
  let listen, patience;
  try {
    return await new Promise((resolve, reject) => {
      listen = ({ source, data }) => {
        if (source !== frame.contentWindow) return;
        try {
          resolve(JSON.parse(data));
        } catch (error) {
          reject(error);
        }
      };
      patience = setTimeout(() => reject(new Error("the page's file does not answer")), 15000);
      addEventListener("message", listen);
      Object.assign(frame, { name: NEWEST, src: address, hidden: true, title: "" });
      document.body.append(frame);
    });
  } finally {
    clearTimeout(patience);
    removeEventListener("message", listen);
    frame.remove();
  }
}
