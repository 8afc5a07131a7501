// Opens the record or arm that a number links to in a dialog. Without this script the same links
// jump to the appendix.
"use strict";
(() => {
  const dialog = document.getElementById("dialog");
  const title = document.getElementById("dialog-title");
  const body = document.getElementById("dialog-body");
  if (!dialog || !dialog.showModal) return;

  const copy = (node) => {
    const clone = node.cloneNode(true);
    for (const item of [clone, ...clone.querySelectorAll("[id]")]) item.removeAttribute("id");
    return clone;
  };

  const show = (target) => {
    title.textContent = target.dataset.title;
    const clone = copy(target);
    clone.querySelector("summary, h5").remove();
    body.replaceChildren(...clone.childNodes);
    if (!dialog.open) dialog.showModal();
    dialog.scrollTop = 0;
  };

  document.addEventListener("click", (event) => {
    const link = event.target.closest("a.num, .claim details a");
    if (link && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
      const target = document.getElementById(link.getAttribute("href").slice(1));
      if (target && target.matches("details.record, .arm")) {
        event.preventDefault();
        show(target);
      }
    } else if (event.target === dialog) {
      dialog.close();
    }
  });
  document.getElementById("dialog-close").addEventListener("click", () => dialog.close());

  // A link from elsewhere to a record opens it.
  const open = () => {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    if (target && target.matches("details")) target.open = true;
  };
  addEventListener("hashchange", open);
  open();
})();
