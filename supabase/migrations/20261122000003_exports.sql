-- What exported files hold, pictures of models, and one picture of every project. The functions are
-- those of 20261122000002_functions.sql with the new rows in them; documents only gained names, so
-- replicas of the release before can share the database.
--
--   job_stages 1-* model_previews (one per model version of a project), contact_sheets

create or replace function public.schema_version_v1() returns text
language sql immutable parallel safe set search_path = public, pg_temp as $$
    select '20261122000003'
$$;

-- ---------------------------------------------------------------------------------------------
-- exports: `options` are canonical, equal for equal files; {} in rows of the release before, whose
-- files are made anew when they are asked for
alter table public.export_history
    add column if not exists options jsonb not null default '{}',
    add column if not exists contents jsonb not null default '{}',
    add column if not exists saved jsonb not null default '{}',
    add column if not exists notes jsonb not null default '[]';
alter table public.export_history drop constraint if exists export_history_format_is_a_word;
alter table public.export_history drop constraint if exists export_history_format_is_a_name;
alter table public.export_history add constraint export_history_format_is_a_name
    check (format ~ '^[a-z0-9]+(-[a-z0-9]+)*$');

-- ---------------------------------------------------------------------------------------------
-- pictures
create table if not exists public.model_previews (
    id bigint generated always as identity primary key,
    project_id text not null references public.projects (id) on delete cascade,
    job_id text not null,
    stage text not null,
    version integer not null,
    thumbnail_path text not null
        constraint model_previews_thumbnail_path_is_set check (thumbnail_path <> ''),
    turntable_path text not null
        constraint model_previews_turntable_path_is_set check (turntable_path <> ''),
    created_at timestamptz not null default clock_timestamp(),
    constraint model_previews_one_row_per_version unique (project_id, version),
    foreign key (job_id, stage) references public.job_stages (job_id, stage) on delete cascade,
    -- Deferred: a stage committed anew takes its models away before it brings them back.
    constraint model_previews_model_exists foreign key (project_id, version)
        references public.gaussian_splat_models (project_id, version)
        deferrable initially deferred
);
create index if not exists model_previews_of_stage on public.model_previews (job_id, stage);

-- The newest row of a project counts; older ones show older models.
create table if not exists public.contact_sheets (
    id bigint generated always as identity primary key,
    project_id text not null references public.projects (id) on delete cascade,
    job_id text not null,
    stage text not null,
    model_version integer not null,
    image_path text not null
        constraint contact_sheets_image_path_is_set check (image_path <> ''),
    created_at timestamptz not null default clock_timestamp(),
    foreign key (job_id, stage) references public.job_stages (job_id, stage) on delete cascade,
    constraint contact_sheets_model_exists foreign key (project_id, model_version)
        references public.gaussian_splat_models (project_id, version)
        deferrable initially deferred
);
create index if not exists contact_sheets_of_project on public.contact_sheets (project_id, id);
create index if not exists contact_sheets_of_stage on public.contact_sheets (job_id, stage);

alter table public.model_previews enable row level security;
alter table public.contact_sheets enable row level security;

comment on table public.model_previews is
    'Thumbnail and turntable of model versions, one row per version.';
comment on table public.contact_sheets is
    'Pictures of whole projects with renders of one model version.';

-- ---------------------------------------------------------------------------------------------
-- functions

-- Status word of a project whose job is in a stage; a stage nobody knows keeps the kind's word.
create or replace function public.stage_status_v1(p_kind text, p_stage text) returns text
language sql immutable parallel safe set search_path = public, pg_temp as $$
    select case
        when p_kind = 'export' then 'exporting'
        when p_kind = 'refine' and p_stage = 'enhance' then 'enhancing'
        when p_kind = 'refine' then 'refining'
        when p_stage = 'depth' then 'depth_estimating'
        when p_stage in ('splats', 'previews', 'contact-sheet') then 'reconstructing'
        else 'multiview_generating'
    end
$$;

-- A project and all its rows in one snapshot and one round trip: what /status reads.
-- Views and depths: of the generate job under way, else of the one that made the newest generated
-- model, else of the newest, so that a failed second run does not hide what is in use.
create or replace function public.project_detail_v1(p_project_id text) returns jsonb
language plpgsql stable set search_path = public, pg_temp as $$
declare
    v_hidden constant text[] := array['id', 'project_id', 'job_id', 'stage', 'created_at'];
    v_detail jsonb;
begin
    select jsonb_build_object(
        'project', project_document_v1(p),
        'views', (
            select coalesce(jsonb_agg(to_jsonb(v) - v_hidden order by v.view_index), '[]')
              from multiview_generation v where v.job_id = generated.id),
        'depths', (
            select coalesce(jsonb_agg(to_jsonb(d) - v_hidden order by d.view_index), '[]')
              from depth_maps d where d.job_id = generated.id),
        'models', (
            select coalesce(jsonb_agg(to_jsonb(m) - v_hidden order by m.version), '[]')
              from gaussian_splat_models m where m.project_id = p.id),
        'iterations', (
            select coalesce(jsonb_agg(
                       (to_jsonb(i) || to_jsonb(r)) - v_hidden order by i.iteration_number), '[]')
              from enhancement_iterations i
              join refinement_metrics r using (job_id, iteration_number)
             where i.job_id = refined.id),
        'exports', (
            select coalesce(jsonb_agg(to_jsonb(e) - v_hidden order by e.id), '[]')
              from export_history e where e.project_id = p.id),
        'previews', (
            select coalesce(jsonb_agg(to_jsonb(w) - v_hidden order by w.version), '[]')
              from model_previews w where w.project_id = p.id),
        'contact_sheet', (
            select to_jsonb(c) - v_hidden
              from contact_sheets c where c.project_id = p.id order by c.id desc limit 1),
        'job', (
            select job_document_v1(j) from jobs j where j.project_id = p.id
             order by j.state in ('queued', 'running') desc, j.queue_number desc limit 1))
      into v_detail
      from projects p
      left join lateral (
            select j.id from jobs j
             where j.project_id = p.id and j.kind = 'generate'
             order by j.state in ('queued', 'running') desc,
                      (select max(m.version) from gaussian_splat_models m where m.job_id = j.id)
                          desc nulls last,
                      j.queue_number desc
             limit 1) generated on true
      left join lateral (
            select j.id from jobs j
             where j.project_id = p.id and j.kind = 'refine'
             order by j.queue_number desc
             limit 1) refined on true
     where p.id = p_project_id;
    if v_detail is null then
        raise exception using errcode = 'GL404',
            message = format('There is no project %s.', p_project_id);
    end if;
    return v_detail;
end
$$;

-- running -> running. p_commit: {stage, seconds, detail, views, depths, models, iterations,
-- enhanced, exports, previews, sheets}, where lists may be left out. Replaces what the stage had committed; its place in the order stays.
create or replace function public.commit_stage_v1(p_job_id text, p_fence bigint, p_commit jsonb)
returns jsonb
language plpgsql set search_path = public, pg_temp as $$
declare
    v_job jobs := lock_attempt_v1(p_job_id, p_fence);
    v_stage constant text := p_commit ->> 'stage';
    v_ordinal integer;
begin
    delete from job_stages where job_id = p_job_id and stage = v_stage
    returning ordinal into v_ordinal;
    if v_ordinal is null then
        select coalesce(max(ordinal), 0) + 1 into v_ordinal from job_stages
         where job_id = p_job_id;
    end if;
    insert into job_stages (job_id, stage, ordinal, seconds, fence, detail)
    values (p_job_id, v_stage, v_ordinal, (p_commit ->> 'seconds')::double precision, p_fence,
            coalesce(p_commit -> 'detail', '{}'));

    insert into multiview_generation (
        project_id, job_id, stage, view_index, image_path, azimuth_deg, elevation_deg, engine)
    select v_job.project_id, p_job_id, v_stage, r.*
      from jsonb_to_recordset(coalesce(p_commit -> 'views', '[]')) as r (
        view_index integer, image_path text, azimuth_deg double precision,
        elevation_deg double precision, engine text);

    insert into depth_maps (
        project_id, job_id, stage, view_index, depth_path, heat_map_path, engine, min_depth,
        max_depth)
    select v_job.project_id, p_job_id, v_stage, r.*
      from jsonb_to_recordset(coalesce(p_commit -> 'depths', '[]')) as r (
        view_index integer, depth_path text, heat_map_path text, engine text,
        min_depth double precision, max_depth double precision);

    insert into gaussian_splat_models (
        project_id, job_id, stage, version, model_path, engine, origin, splat_count,
        file_size_bytes, psnr, ssim, lpips, overall_quality)
    select v_job.project_id, p_job_id, v_stage, r.*
      from jsonb_to_recordset(coalesce(p_commit -> 'models', '[]')) as r (
        version integer, model_path text, engine text, origin text, splat_count bigint,
        file_size_bytes bigint, psnr double precision, ssim double precision,
        lpips double precision, overall_quality double precision);

    insert into enhancement_iterations (
        project_id, job_id, stage, iteration_number, accepted, model_version, enhance_engine,
        strength, learning_rate, seconds, note)
    select v_job.project_id, p_job_id, v_stage, r.*
      from jsonb_to_recordset(coalesce(p_commit -> 'iterations', '[]')) as r (
        iteration_number integer, accepted boolean, model_version integer, enhance_engine text,
        strength double precision, learning_rate double precision, seconds double precision,
        note text);

    insert into refinement_metrics (
        project_id, job_id, stage, iteration_number, overall_quality, psnr, ssim, lpips)
    select v_job.project_id, p_job_id, v_stage, r.*
      from jsonb_to_recordset(coalesce(p_commit -> 'iterations', '[]')) as r (
        iteration_number integer, overall_quality double precision, psnr double precision,
        ssim double precision, lpips double precision);

    insert into enhanced_views (
        project_id, job_id, stage, iteration_number, view_index, image_path, engine)
    select v_job.project_id, p_job_id, v_stage, r.*
      from jsonb_to_recordset(coalesce(p_commit -> 'enhanced', '[]')) as r (
        iteration_number integer, view_index integer, image_path text, engine text);

    insert into export_history (
        project_id, job_id, stage, model_version, format, optimize, file_path, file_size_bytes,
        seconds, options, contents, saved, notes)
    select v_job.project_id, p_job_id, v_stage, r.model_version, r.format, r.optimize, r.file_path,
           r.file_size_bytes, r.seconds, coalesce(r.options, '{}'), coalesce(r.contents, '{}'),
           coalesce(r.saved, '{}'), coalesce(r.notes, '[]')
      from jsonb_to_recordset(coalesce(p_commit -> 'exports', '[]')) as r (
        model_version integer, format text, optimize boolean, file_path text,
        file_size_bytes bigint, seconds double precision, options jsonb, contents jsonb,
        saved jsonb, notes jsonb);

    insert into model_previews (
        project_id, job_id, stage, version, thumbnail_path, turntable_path)
    select v_job.project_id, p_job_id, v_stage, r.*
      from jsonb_to_recordset(coalesce(p_commit -> 'previews', '[]')) as r (
        version integer, thumbnail_path text, turntable_path text);

    insert into contact_sheets (project_id, job_id, stage, model_version, image_path)
    select v_job.project_id, p_job_id, v_stage, r.*
      from jsonb_to_recordset(coalesce(p_commit -> 'sheets', '[]')) as r (
        model_version integer, image_path text);

    perform add_job_event_v1(p_job_id, 'commit', jsonb_build_object(
        'stage', v_stage, 'seconds', (p_commit ->> 'seconds')::double precision,
        'progress', v_job.progress, 'attempt', v_job.attempt));
    return job_document_v1(v_job);
end
$$;

-- What the job's attempts have committed, in the order of the stages' first commits.
create or replace function public.committed_v1(p_job_id text) returns jsonb
language plpgsql stable set search_path = public, pg_temp as $$
declare
    v_hidden constant text[] := array['id', 'project_id', 'job_id', 'stage', 'created_at'];
begin
    perform 1 from jobs where id = p_job_id;
    if not found then
        raise exception using errcode = 'GL404', message = format('There is no job %s.', p_job_id);
    end if;
    return (
        select coalesce(jsonb_agg(jsonb_build_object(
            'stage', s.stage,
            'seconds', s.seconds,
            'detail', s.detail,
            'views', (
                select coalesce(jsonb_agg(to_jsonb(v) - v_hidden order by v.id), '[]')
                  from multiview_generation v where (v.job_id, v.stage) = (s.job_id, s.stage)),
            'depths', (
                select coalesce(jsonb_agg(to_jsonb(d) - v_hidden order by d.id), '[]')
                  from depth_maps d where (d.job_id, d.stage) = (s.job_id, s.stage)),
            'models', (
                select coalesce(jsonb_agg(to_jsonb(m) - v_hidden order by m.id), '[]')
                  from gaussian_splat_models m where (m.job_id, m.stage) = (s.job_id, s.stage)),
            'iterations', (
                select coalesce(jsonb_agg(
                           (to_jsonb(i) || to_jsonb(r)) - v_hidden order by i.id), '[]')
                  from enhancement_iterations i
                  join refinement_metrics r using (job_id, iteration_number)
                 where (i.job_id, i.stage) = (s.job_id, s.stage)),
            'enhanced', (
                select coalesce(jsonb_agg(to_jsonb(n) - v_hidden order by n.id), '[]')
                  from enhanced_views n where (n.job_id, n.stage) = (s.job_id, s.stage)),
            'exports', (
                select coalesce(jsonb_agg(to_jsonb(e) - v_hidden order by e.id), '[]')
                  from export_history e where (e.job_id, e.stage) = (s.job_id, s.stage)),
            'previews', (
                select coalesce(jsonb_agg(to_jsonb(w) - v_hidden order by w.id), '[]')
                  from model_previews w where (w.job_id, w.stage) = (s.job_id, s.stage)),
            'sheets', (
                select coalesce(jsonb_agg(to_jsonb(c) - v_hidden order by c.id), '[]')
                  from contact_sheets c where (c.job_id, c.stage) = (s.job_id, s.stage))
            ) order by s.ordinal), '[]')
          from job_stages s where s.job_id = p_job_id);
end
$$;
