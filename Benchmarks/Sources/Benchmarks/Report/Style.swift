/// How the page looks. Peers are muted, ours is not; no two colours are told apart by hue alone.
enum Style {
    static let sheet = """
        :root {
            color-scheme: light dark;
            --page: #ffffff; --card: #f7f8fa; --ink: #1c2127; --soft: #5a636e; --edge: #dfe3e8; --grid: #e2e6ea;
            --unity: #1c2127; --link: #1f5fae; --ours: #d9411e; --own: #bb3214; --dim: #8d97a3;
            --raw: #7a6f67; --libuv: #3b6aae; --libevent: #4faad9; --libev: #79a66c; --asio: #523810;
            --tokio: #d390ad; --nio: #383c57; --other: #9a9a4e;
        }
        @media (prefers-color-scheme: dark) {
            :root {
                --page: #14171c; --card: #1b1f26; --ink: #e4e8ee; --soft: #9ba6b3; --edge: #2c323b; --grid: #2b313a;
                --unity: #e4e8ee; --link: #7fb4f5; --ours: #ff6f4a; --own: #ff8a69; --dim: #6b7683;
                --raw: #7e7b87; --libuv: #2a6fb0; --libevent: #7ccdf0; --libev: #3ba882; --asio: #b8d393;
                --tokio: #cb84bd; --nio: #e0c0cc; --other: #a9a75c;
            }
        }
        * { box-sizing: border-box; }
        html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
        body { margin: 0; background: var(--page); color: var(--ink);
            font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif; }
        main { max-width: 1240px; margin: 0 auto; padding: 24px 16px 64px; }
        h1 { font-size: clamp(26px, 5vw, 36px); line-height: 1.2; margin: 0; letter-spacing: -0.01em; }
        h2 { font-size: 22px; line-height: 1.3; margin: 0 0 8px; }
        h3 { font-size: 16px; margin: 24px 0 2px; }
        p { margin: 0 0 8px; }
        a { color: var(--link); }
        small { font-size: 0.82em; color: var(--soft); font-weight: 400; }
        header { margin-bottom: 20px; }
        .date, .note { color: var(--soft); }
        .note { font-size: 14px; margin-bottom: 10px; }
        section { border-top: 1px solid var(--edge); padding: 20px 0 28px; }
        .two { display: grid; grid-template-columns: minmax(0, 2fr) minmax(0, 3fr); gap: 20px 40px; }
        .two ul { margin: 0; padding-left: 1.2em; }
        .two li { margin-bottom: 4px; }
        dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 4px 16px; margin: 0; }
        dt { color: var(--soft); }
        dd { margin: 0; overflow-wrap: anywhere; }
        .glance { display: grid; grid-template-columns: minmax(0, 2fr) minmax(0, 3fr); gap: 12px 40px; }
        .glance figure { background: none; border: 0; padding: 0; max-width: 500px; }
        nav { display: flex; flex-wrap: wrap; gap: 6px; margin: 12px 0; }
        nav a { border: 1px solid var(--edge); border-radius: 6px; padding: 3px 10px; text-decoration: none; }
        nav a:hover { border-color: var(--link); }
        .legend { display: flex; flex-wrap: wrap; gap: 4px 16px; font-size: 14px; margin: 4px 0 0; }
        .key { white-space: nowrap; }
        .key i { display: inline-block; width: 12px; height: 12px; border-radius: 2px; margin-right: 6px;
            vertical-align: -1px; background: var(--c); }
        .key i.round { border-radius: 50%; }
        .key.own { font-weight: 700; color: var(--own); }
        .panels { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(340px, 100%), 1fr)); gap: 12px; }
        figure { margin: 0; padding: 10px 12px 8px; background: var(--card); border: 1px solid var(--edge);
            border-radius: 8px; min-width: 0; }
        .panels figure { max-width: 560px; }
        figcaption { font-size: 14px; line-height: 1.35; margin-bottom: 8px; overflow-wrap: anywhere; }
        figcaption span { color: var(--soft); }
        figcaption em { font-style: normal; font-size: 12px; white-space: nowrap; border: 1px solid var(--soft);
            border-radius: 4px; padding: 0 5px; color: var(--soft); margin-left: 4px; }
        figcaption .what { display: block; font-size: 13px; }
        svg { display: block; height: auto; overflow: visible; }
        svg text { fill: var(--ink); font-size: 12px; font-variant-numeric: tabular-nums; }
        svg text.e { text-anchor: end; }
        svg text.m { text-anchor: middle; }
        svg text.own { font-weight: 700; fill: var(--own); }
        svg text.soft, svg text.tick { fill: var(--soft); }
        svg text.tick { font-size: 11px; }
        svg text.one { fill: var(--ink); font-weight: 700; }
        .grid { stroke: var(--grid); }
        .unity { stroke: var(--unity); stroke-width: 1.2; }
        .halo { stroke: var(--card); stroke-width: 3; stroke-linecap: square; opacity: 0.75; }
        .whisker { stroke: var(--ink); stroke-width: 1.1; }
        .ideal { stroke: var(--soft); stroke-dasharray: 4 4; fill: none; }
        .leader { stroke: var(--dim); opacity: 0.6; }
        .f { fill: var(--c); }
        .f.hollow { fill: var(--card); stroke: var(--c); stroke-width: 1.6; }
        .l { stroke: var(--c); stroke-width: 2; fill: none; stroke-linejoin: round; }
        .l.thin { stroke-width: 1.6; opacity: 0.6; }
        .l.s-ours { stroke-width: 2.8; }
        .l.thin.s-ours { stroke-width: 2; opacity: 0.8; }
        .dot { stroke: var(--page); }
        .dim { fill: var(--dim); opacity: 0.4; }
        .s-ours { --c: var(--ours); }
        .s-raw { --c: var(--raw); }
        .s-libuv { --c: var(--libuv); }
        .s-libevent { --c: var(--libevent); }
        .s-libev { --c: var(--libev); }
        .s-asio { --c: var(--asio); }
        .s-tokio { --c: var(--tokio); }
        .s-nio { --c: var(--nio); }
        .s-other { --c: var(--other); }
        .s-dim { --c: var(--dim); }
        details { margin-top: 18px; }
        summary { cursor: pointer; font-weight: 600; }
        .scroll { overflow-x: auto; margin-top: 10px; }
        table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; min-width: 100%; }
        th, td { text-align: left; vertical-align: top; padding: 3px 12px 3px 0; white-space: nowrap; }
        thead th { color: var(--soft); font-weight: 600; border-bottom: 1px solid var(--edge); }
        tbody { border-bottom: 1px solid var(--edge); }
        tbody th { font-weight: 600; padding-right: 24px; }
        .n { text-align: right; }
        .notes { color: var(--soft); }
        tr.own td { font-weight: 700; color: var(--own); }
        abbr { text-decoration: none; color: var(--soft); }
        @media (max-width: 800px) {
            .two, .glance { grid-template-columns: minmax(0, 1fr); }
        }
        @media print {
            figure, tbody { break-inside: avoid; }
            details::details-content { content-visibility: visible; height: auto; }
        }
        """
}
