// One player at the foot of the page; every play button hands it a song.
"use strict";

(() => {
  const player = document.getElementById("player");
  const part = (name) => player.querySelector(`[data-${name}]`);
  const audio = new Audio();
  let current = null; // the button of the song that is loaded

  const clock = (seconds) => {
    const whole = Number.isFinite(seconds) ? Math.floor(seconds) : 0;
    return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
  };

  const say = (text, failed) => {
    part("artist").textContent = text;
    part("artist").parentElement.classList.toggle("failed", failed);
  };

  const load = (button) => {
    current = button;
    part("title").textContent = button.dataset.name;
    say(button.dataset.by, false);
    player.hidden = false;
    // One name for all requests of this hearing: it counts as one play.
    const play = crypto.randomUUID ? `?play=${crypto.randomUUID()}` : "";
    audio.src = button.dataset.stream + play;
    start();
  };

  const start = () => audio.play().catch(() => {}); // the error event tells the listener

  const show = () => {
    const playing = !audio.paused;
    for (const button of document.querySelectorAll("[data-stream]")) {
      const on = playing && button === current;
      button.classList.toggle("playing", on);
      button.setAttribute("aria-label", `${on ? "Pause" : "Play"} ${button.dataset.name}`);
    }
    part("toggle").classList.toggle("playing", playing);
    part("toggle").setAttribute("aria-label", playing ? "Pause" : "Play");
  };

  const toggle = () => {
    if (!audio.paused) audio.pause();
    else if (audio.error || audio.ended) load(current); // a new hearing
    else start();
  };

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-stream]");
    if (button && button !== current) load(button);
    else if (button || event.target.closest("[data-toggle]")) toggle();
  });

  for (const name of ["play", "pause", "ended"]) audio.addEventListener(name, show);
  audio.addEventListener("error", () => {
    say("This song can't be played right now. Try again in a moment.", true);
    show();
  });
  audio.addEventListener("durationchange", () => {
    part("length").textContent = clock(audio.duration);
  });
  audio.addEventListener("timeupdate", () => {
    part("now").textContent = clock(audio.currentTime);
    part("seek").value = audio.duration ? (1000 * audio.currentTime) / audio.duration : 0;
    part("seek").setAttribute("aria-valuetext", clock(audio.currentTime));
  });
  part("seek").addEventListener("input", () => {
    if (audio.duration) audio.currentTime = (part("seek").value / 1000) * audio.duration;
  });
})();
