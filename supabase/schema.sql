-- What the migrations make together, on a PostgreSQL without the roles and the Storage of Supabase.
-- Written by `python -m bench.schema`, to be read: what is to change, changes in a migration.

-- Name: add_job_event_v1(text, text, jsonb); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.add_job_event_v1(p_job_id text, p_kind text, p_data jsonb) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    AS $$
declare
    v_seq bigint;
    v_project_id text;
begin
    update jobs
       set last_event = last_event + 1,
           told_progress = greatest(
               told_progress, (p_data ->> 'progress')::double precision),
           -- Here and not in each caller: a stage begins, or its next part after a commit.
           step_started_at = case when p_kind in ('stage', 'commit')
               then clock_timestamp() else step_started_at end
     where id = p_job_id
    returning last_event, project_id into v_seq, v_project_id;
    insert into job_events (job_id, seq, kind, data) values (p_job_id, v_seq, p_kind, p_data);
    -- Wakes who listens, after the commit; the payload is the id and nothing more.
    perform pg_notify('glimpse3d_jobs', p_job_id);
    perform pg_notify('glimpse3d_projects', v_project_id);
end
$$;

-- Name: jobs; Type: TABLE; Schema: public; Owner: -

CREATE TABLE public.jobs (
    id text DEFAULT (gen_random_uuid())::text NOT NULL,
    queue_number bigint NOT NULL,
    project_id text NOT NULL,
    kind text NOT NULL,
    state text DEFAULT 'queued'::text NOT NULL,
    options jsonb DEFAULT '{}'::jsonb NOT NULL,
    fingerprint text NOT NULL,
    idempotency_key text,
    stage text DEFAULT ''::text NOT NULL,
    progress double precision DEFAULT 0 NOT NULL,
    attempt integer DEFAULT 0 NOT NULL,
    max_attempts integer DEFAULT 3 NOT NULL,
    fence bigint DEFAULT 0 NOT NULL,
    worker text,
    lease_expires_at timestamp with time zone,
    cancel_requested boolean DEFAULT false NOT NULL,
    error jsonb,
    result jsonb,
    last_event bigint DEFAULT 0 NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    started_at timestamp with time zone,
    finished_at timestamp with time zone,
    updated_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    client text DEFAULT ''::text NOT NULL,
    shape text DEFAULT ''::text NOT NULL,
    step text DEFAULT ''::text NOT NULL,
    step_started_at timestamp with time zone,
    told_progress double precision DEFAULT 0 NOT NULL,
    not_before timestamp with time zone,
    last_error jsonb,
    webhook_url text,
    swept_at timestamp with time zone,
    forgotten_at timestamp with time zone,
    false_starts integer DEFAULT 0 NOT NULL,
    photos jsonb DEFAULT '[]'::jsonb NOT NULL,
    shown boolean DEFAULT false NOT NULL,
    CONSTRAINT jobs_attempt_is_not_negative CHECK ((attempt >= 0)),
    CONSTRAINT jobs_failed_has_error CHECK (((state <> 'failed'::text) OR (error IS NOT NULL))),
    CONSTRAINT jobs_false_starts_are_not_negative CHECK ((false_starts >= 0)),
    CONSTRAINT jobs_fence_counts_claims CHECK ((fence >= attempt)),
    CONSTRAINT jobs_finished_iff_ended CHECK (((state = ANY (ARRAY['succeeded'::text, 'failed'::text, 'cancelled'::text])) = (finished_at IS NOT NULL))),
    CONSTRAINT jobs_idempotency_key_has_1_to_255_characters CHECK (((length(idempotency_key) >= 1) AND (length(idempotency_key) <= 255))),
    CONSTRAINT jobs_kind_is_known CHECK ((kind = ANY (ARRAY['generate'::text, 'refine'::text, 'export'::text]))),
    CONSTRAINT jobs_lease_iff_running CHECK (((state = 'running'::text) = (lease_expires_at IS NOT NULL))),
    CONSTRAINT jobs_max_attempts_is_1_to_100 CHECK (((max_attempts >= 1) AND (max_attempts <= 100))),
    CONSTRAINT jobs_photos_is_a_list CHECK ((jsonb_typeof(photos) = 'array'::text)),
    CONSTRAINT jobs_progress_is_a_fraction CHECK (((progress >= (0)::double precision) AND (progress <= (1)::double precision))),
    CONSTRAINT jobs_result_iff_succeeded CHECK (((state = 'succeeded'::text) = (result IS NOT NULL))),
    CONSTRAINT jobs_state_is_known CHECK ((state = ANY (ARRAY['queued'::text, 'running'::text, 'succeeded'::text, 'failed'::text, 'cancelled'::text]))),
    CONSTRAINT jobs_webhook_url_is_set CHECK ((webhook_url <> ''::text))
);

-- Name: TABLE jobs; Type: COMMENT; Schema: public; Owner: -

COMMENT ON TABLE public.jobs IS 'Work asked for: generate, refine, export. A running job is held by lease and fence.';

-- Name: add_job_state_event_v1(public.jobs); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.add_job_state_event_v1(p_job public.jobs) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    AS $$
begin
    perform add_job_event_v1(p_job.id, 'state', jsonb_strip_nulls(jsonb_build_object(
        'state', p_job.state,
        'stage', p_job.stage,
        'progress', p_job.progress,
        'attempt', p_job.attempt,
        'error', p_job.error)));
end
$$;

-- Name: ago_v1(double precision); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.ago_v1(p_seconds double precision) RETURNS timestamp with time zone
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    AS $$
begin
    if p_seconds is null or not (abs(p_seconds) <= 1e10) then
        raise exception using errcode = 'GL400',
            message = format('%s is not a number of seconds.', p_seconds);
    end if;
    return clock_timestamp() - make_interval(secs => p_seconds);
end
$$;

-- Name: arrange_photos_v1(text, bigint, jsonb, text, text, text, text); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.arrange_photos_v1(p_project_id text, p_revision bigint, p_photos jsonb, p_added text DEFAULT NULL::text, p_idempotency_key text DEFAULT NULL::text, p_fingerprint text DEFAULT ''::text, p_client text DEFAULT ''::text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
declare
    v_revision bigint;
    v_taken project_photos;
begin
    perform lock_project_v1(p_project_id);
    select photos_revision into v_revision from projects
     where id = p_project_id and status <> 'uploading' for no key update;
    if not found or is_marked_v1(p_project_id) then
        raise exception using errcode = 'GL404',
            message = format('There is no project %s.', p_project_id);
    end if;
    if p_idempotency_key is not null then
        select * into v_taken from project_photos
         where client = p_client and idempotency_key = p_idempotency_key;
        if v_taken.id is not null and v_taken.fingerprint is distinct from p_fingerprint then
            raise exception using errcode = 'GL422', message = format(
                'Idempotency key %s belongs to another request.', p_idempotency_key);
        end if;
    end if;
    if v_revision <> p_revision or v_taken.id is not null then
        raise exception using errcode = 'GL409', message = format(
            'The photos of project %s have been changed meanwhile.', p_project_id);
    end if;
    if jsonb_array_length(p_photos) not between 1 and 8 then
        raise exception using errcode = 'GL400', message = 'A project has 1 to 8 photos.';
    end if;

    -- Taken out first, so that nothing is in a place that another one gets.
    update project_photos f
       set position = null,
           state = case when exists (
                   select 1 from jobs j where j.project_id = p_project_id
                      and j.photos @> jsonb_build_array(jsonb_build_object('id', f.id)))
               then 'kept' else 'removed' end
     where f.project_id = p_project_id and f.state = 'listed'
       and not p_photos @> jsonb_build_array(jsonb_build_object('id', f.id));
    update project_photos f
       set position = a.place - 1, state = 'listed', side = r.side, azimuth_deg = r.azimuth_deg,
           elevation_deg = r.elevation_deg
      from jsonb_array_elements(p_photos) with ordinality a (photo, place)
     cross join lateral jsonb_to_record(a.photo) as r (
        id text, side text, azimuth_deg double precision, elevation_deg double precision)
     where f.id = r.id and f.project_id = p_project_id and f.state in ('arriving', 'listed');
    if (select count(*) from project_photos f
         where f.project_id = p_project_id and f.state = 'listed')
            <> jsonb_array_length(p_photos) then
        raise exception using errcode = 'GL404', message = format(
            'A photo of project %s is not there any more.', p_project_id);
    end if;
    if p_idempotency_key is not null then
        -- Somebody may have used it for a photo of another project in this moment.
        begin
            update project_photos
               set idempotency_key = p_idempotency_key, fingerprint = p_fingerprint,
                   client = p_client
             where id = p_added and project_id = p_project_id;
        exception when unique_violation then
            raise exception using errcode = 'GL422', message = format(
                'Idempotency key %s belongs to another request.', p_idempotency_key);
        end;
    end if;
    update projects set photos_revision = photos_revision + 1 where id = p_project_id;
    return true;
end
$$;

-- Name: begin_photo_v1(text, jsonb); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.begin_photo_v1(p_project_id text, p_photo jsonb) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
declare
    v_status text;
begin
    perform lock_project_v1(p_project_id);
    select status into v_status from projects where id = p_project_id;
    if not found or is_marked_v1(p_project_id) then
        raise exception using errcode = 'GL404',
            message = format('There is no project %s.', p_project_id);
    end if;
    if v_status = 'uploading' then
        raise exception using errcode = 'GL409',
            message = format('Project %s is not uploaded yet.', p_project_id);
    end if;
    insert into project_photos (
        id, project_id, original_path, processed_path, background_engine, sha256, notes)
    select r.id, p_project_id, r.original_path, r.processed_path, r.background_engine,
           coalesce(r.sha256, ''), coalesce(r.notes, '[]')
      from jsonb_to_record(p_photo) as r (
        id text, original_path text, processed_path text, background_engine text, sha256 text,
        notes jsonb)
    on conflict (id) do nothing;
    return true;
end
$$;

-- Name: begin_upload_v1(text, jsonb); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.begin_upload_v1(p_project_id text, p_photos jsonb) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
declare
    v_project projects;
begin
    perform lock_project_v1(p_project_id);
    -- The files of a project of this name are still to be deleted.
    if not is_marked_v1(p_project_id) then
        insert into projects (id, status) values (p_project_id, 'uploading')
        on conflict (id) do nothing
        returning * into v_project;
    end if;
    if v_project.id is null then
        raise exception using errcode = 'GL409',
            message = format('There is a project %s already.', p_project_id);
    end if;
    if coalesce(jsonb_array_length(p_photos), 0) not between 1 and 8 then
        raise exception using errcode = 'GL400', message = 'A project has 1 to 8 photos.';
    end if;
    insert into project_photos (
        id, project_id, state, position, original_path, processed_path, background_engine, sha256,
        side, azimuth_deg, elevation_deg, notes)
    select r.id, p_project_id, 'listed', a.place - 1, r.original_path, r.processed_path,
           r.background_engine, coalesce(r.sha256, ''), r.side, r.azimuth_deg, r.elevation_deg,
           coalesce(r.notes, '[]')
      from jsonb_array_elements(p_photos) with ordinality a (photo, place)
     cross join lateral jsonb_to_record(a.photo) as r (
        id text, original_path text, processed_path text, background_engine text, sha256 text,
        side text, azimuth_deg double precision, elevation_deg double precision, notes jsonb);
    return project_document_v1(v_project);
end
$$;

-- Name: cancel_job_v1(text); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.cancel_job_v1(p_job_id text) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
declare
    v_job jobs;
begin
    select * into v_job from jobs where id = p_job_id for update;
    if not found then
        raise exception using errcode = 'GL404', message = format('There is no job %s.', p_job_id);
    end if;
    if v_job.state = 'queued'
            or (v_job.state = 'running' and v_job.lease_expires_at <= clock_timestamp()) then
        update jobs set cancel_requested = true where id = p_job_id;
        v_job := end_job_v1(p_job_id, 'cancelled', null, null);
    elsif v_job.state = 'running' and not v_job.cancel_requested then
        update jobs set cancel_requested = true where id = p_job_id returning * into v_job;
        perform add_job_event_v1(p_job_id, 'cancel', jsonb_build_object('stage', v_job.stage));
    end if;
    return job_document_v1(v_job);
end
$$;

-- Name: check_lease_v1(double precision); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.check_lease_v1(p_lease_s double precision) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'public', 'pg_temp'
    AS $$
begin
    if p_lease_s is null or not (p_lease_s > 0 and p_lease_s <= 86400) then
        raise exception using errcode = 'GL400',
            message = format('lease_s must be above 0 and at most 86400, not %s.', p_lease_s);
    end if;
end
$$;

-- Name: check_limit_v1(integer); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.check_limit_v1(p_limit integer) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'public', 'pg_temp'
    AS $$
begin
    if p_limit is null or p_limit not between 1 and 10000 then
        raise exception using errcode = 'GL400',
            message = format('limit must be 1 to 10000, not %s.', p_limit);
    end if;
end
$$;

-- Name: check_version_v1(text, integer); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.check_version_v1(p_project_id text, p_version integer) RETURNS void
    LANGUAGE plpgsql STABLE
    SET search_path TO 'public', 'pg_temp'
    AS $$
begin
    if not exists (select 1 from gaussian_splat_models
                    where project_id = p_project_id and version = p_version) then
        raise exception using errcode = 'GL404', message = format(
            'Project %s has no model version %s: %s.', p_project_id, p_version, coalesce(
                'it has ' || (select string_agg(version::text, ', ' order by version)
                                from gaussian_splat_models where project_id = p_project_id),
                'it has none yet, generate one first'));
    end if;
end
$$;

-- Name: claim_job_v1(text, double precision, integer); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.claim_job_v1(p_worker text, p_lease_s double precision, p_max_running integer DEFAULT NULL::integer) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
declare
    v_id text;
    v_job jobs;
    v_free boolean;
    v_full boolean := false;
begin
    perform check_lease_v1(p_lease_s);
    if p_max_running < 1 then
        raise exception using errcode = 'GL400',
            message = format('max_running must be at least 1, not %s.', p_max_running);
    elsif p_max_running is not null then
        -- Two that count at once would both find room for one more.
        perform pg_advisory_xact_lock(hashtextextended('glimpse3d claims', 0));
        v_full := p_max_running <= (
            select count(*) from jobs
             where state = 'running' and lease_expires_at > clock_timestamp());
    end if;
    loop
        -- Without room those that only have to be ended, and the queue is not even read.
        select * into v_job from jobs j
         where state = 'running' and lease_expires_at <= clock_timestamp()
           and (not v_full or cancel_requested
                or (attempt >= max_attempts and not is_false_start_v1(j)))
         order by queue_number
         for update skip locked
         limit 1;
        if v_job.id is null and not v_full then
            -- The order is of a moment ago: another claimer may have taken the first ones since.
            for v_id in select o.job_id from queue_order_v1() o order by o.place loop
                select * into v_job from jobs
                 where id = v_id and state = 'queued'
                   and (not_before is null or not_before <= clock_timestamp())
                 for update skip locked;
                exit when found;
            end loop;
        end if;
        exit when v_job.id is null;

        v_free := v_job.state = 'running' and is_false_start_v1(v_job);
        if v_job.cancel_requested then
            perform end_job_v1(v_job.id, 'cancelled', null, null);
        elsif v_job.attempt >= v_job.max_attempts and not v_free then
            perform end_job_v1(v_job.id, 'failed', null, jsonb_build_object(
                'code', 'attempts_exhausted',
                'detail', format('The job was given up after %s attempts: the last one stopped '
                    'without an answer%s.%s', v_job.attempt,
                    case when v_job.stage <> '' then format(' in stage %s', v_job.stage) end,
                    ' One before it had ended so: ' || (v_job.last_error ->> 'detail')),
                'stage', v_job.stage,
                'retryable', true));
        else
            update jobs
               set state = 'running',
                   fence = fence + 1,
                   attempt = case when v_free then attempt else attempt + 1 end,
                   false_starts = case when v_free then false_starts + 1 else false_starts end,
                   stage = '',  -- until the driver's first heartbeat
                   step = '',
                   step_started_at = clock_timestamp(),
                   not_before = null,
                   worker = p_worker,
                   lease_expires_at = clock_timestamp() + make_interval(secs => p_lease_s),
                   started_at = coalesce(started_at, clock_timestamp())
             where id = v_job.id
            returning * into v_job;
            perform add_job_state_event_v1(v_job);
            perform show_job_on_project_v1(v_job);
            return jsonb_build_object('job', job_document_v1(v_job), 'fence', v_job.fence);
        end if;
    end loop;
    return null;
end
$$;

-- Name: claim_webhook_v1(double precision); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.claim_webhook_v1(p_lease_s double precision) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
declare
    v_hook webhooks;
    v_job jobs;
begin
    perform check_lease_v1(p_lease_s);
    select * into v_hook from webhooks
     where state = 'pending' and next_at <= now()  -- which an index can be asked for
     order by next_at for update skip locked limit 1;
    if not found then
        return null;
    end if;
    update webhooks
       set attempts = attempts + 1, next_at = clock_timestamp() + make_interval(secs => p_lease_s)
     where job_id = v_hook.job_id
    returning * into v_hook;
    select * into v_job from jobs where id = v_hook.job_id;
    return jsonb_build_object(
        'job', job_document_v1(v_job), 'url', v_hook.url, 'attempt', v_hook.attempts,
        'claimed_at', clock_timestamp());
end
$$;

-- Name: commit_stage_v1(text, bigint, jsonb); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.commit_stage_v1(p_job_id text, p_fence bigint, p_commit jsonb) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
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
        project_id, job_id, stage, view_index, image_path, azimuth_deg, elevation_deg, engine, edit)
    select v_job.project_id, p_job_id, v_stage, r.view_index, r.image_path, r.azimuth_deg,
           r.elevation_deg, r.engine, coalesce(r.edit, '')
      from jsonb_to_recordset(coalesce(p_commit -> 'views', '[]')) as r (
        view_index integer, image_path text, azimuth_deg double precision,
        elevation_deg double precision, engine text, edit text);

    insert into depth_maps (
        project_id, job_id, stage, view_index, depth_path, heat_map_path, engine, min_depth,
        max_depth)
    select v_job.project_id, p_job_id, v_stage, r.*
      from jsonb_to_recordset(coalesce(p_commit -> 'depths', '[]')) as r (
        view_index integer, depth_path text, heat_map_path text, engine text,
        min_depth double precision, max_depth double precision);

    insert into gaussian_splat_models (
        project_id, job_id, stage, version, model_path, engine, origin, splat_count,
        file_size_bytes, psnr, ssim, lpips, view_agreement, expected_likeness, scores,
        parent)
    select v_job.project_id, p_job_id, v_stage, r.version, r.model_path, r.engine, r.origin,
           r.splat_count, r.file_size_bytes, r.psnr, r.ssim, r.lpips, r.view_agreement,
           r.expected_likeness, coalesce(r.scores, '{}'), r.parent
      from jsonb_to_recordset(coalesce(p_commit -> 'models', '[]')) as r (
        version integer, model_path text, engine text, origin text, splat_count bigint,
        file_size_bytes bigint, psnr double precision, ssim double precision,
        lpips double precision, view_agreement double precision,
        expected_likeness double precision, scores jsonb, parent integer);
    if found then
        update projects p
           set current_version = (select max(m.version) from gaussian_splat_models m
                                   where m.job_id = p_job_id and m.stage = v_stage)
         where p.id = v_job.project_id;
    end if;
    -- Edits that the stage has done: numbers of rows.
    update view_edits d set applied_by = p_job_id
     where d.project_id = v_job.project_id
       and d.id in (select e::bigint from jsonb_array_elements_text(
               case when jsonb_typeof(p_commit -> 'detail' -> 'applied_edits') = 'array'
                   then p_commit -> 'detail' -> 'applied_edits' else '[]' end) e);

    insert into enhancement_iterations (
        project_id, job_id, stage, iteration_number, accepted, model_version, enhance_engine,
        strength, learning_rate, seconds, note, detail)
    select v_job.project_id, p_job_id, v_stage, r.iteration_number, r.accepted, r.model_version,
           r.enhance_engine, r.strength, r.learning_rate, r.seconds, r.note,
           coalesce(r.detail, '{}')
      from jsonb_to_recordset(coalesce(p_commit -> 'iterations', '[]')) as r (
        iteration_number integer, accepted boolean, model_version integer, enhance_engine text,
        strength double precision, learning_rate double precision, seconds double precision,
        note text, detail jsonb);

    insert into refinement_metrics (
        project_id, job_id, stage, iteration_number, view_agreement, expected_likeness, psnr, ssim,
        lpips, scores)
    select v_job.project_id, p_job_id, v_stage, r.iteration_number, r.view_agreement,
           r.expected_likeness, r.psnr, r.ssim, r.lpips, coalesce(r.scores, '{}')
      from jsonb_to_recordset(coalesce(p_commit -> 'iterations', '[]')) as r (
        iteration_number integer, view_agreement double precision,
        expected_likeness double precision, psnr double precision, ssim double precision,
        lpips double precision, scores jsonb);

    insert into enhanced_views (
        project_id, job_id, stage, iteration_number, view_index, image_path, engine,
        before_path, after_path, weight)
    select v_job.project_id, p_job_id, v_stage, r.*
      from jsonb_to_recordset(coalesce(p_commit -> 'enhanced', '[]')) as r (
        iteration_number integer, view_index integer, image_path text, engine text,
        before_path text, after_path text, weight double precision);

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

-- Name: committed_v1(text); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.committed_v1(p_job_id text) RETURNS jsonb
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
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

-- Name: delete_project_v1(text); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.delete_project_v1(p_project_id text) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
declare
    v_job_id text;
    v_job jsonb;
begin
    perform lock_project_v1(p_project_id);
    perform 1 from projects where id = p_project_id;
    if not found then
        if not is_marked_v1(p_project_id) then
            raise exception using errcode = 'GL404',
                message = format('There is no project %s.', p_project_id);
        end if;
        return null;
    end if;
    select id into v_job_id from jobs
     where project_id = p_project_id and state in ('queued', 'running');
    if found then
        v_job := cancel_job_v1(v_job_id);
    end if;
    perform mark_project_v1(p_project_id);
    return case when v_job ->> 'state' = 'running' then v_job end;
end
$$;

-- Name: due_deletions_v1(double precision, integer); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.due_deletions_v1(p_grace_s double precision, p_limit integer DEFAULT 20) RETURNS jsonb
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
declare
    v_before constant timestamptz := ago_v1(p_grace_s);
begin
    perform check_limit_v1(p_limit);
    return (
        select coalesce(jsonb_agg(d.project_id order by d.requested_at, d.project_id), '[]')
          from (select * from deletions
                 where purged_at is null or purged_at <= v_before
                 order by requested_at, project_id limit p_limit) d);
end
$$;

-- Name: due_photos_v1(double precision, integer); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.due_photos_v1(p_age_s double precision, p_limit integer DEFAULT 20) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
declare
    v_since constant timestamptz := ago_v1(p_age_s);
begin
    perform check_limit_v1(p_limit);
    update project_photos set state = 'removed'
     where id in (select id from project_photos
                   where state = 'arriving' and created_at <= v_since
                   order by created_at limit p_limit for update skip locked);
    return (
        select coalesce(jsonb_agg(jsonb_build_object(
                   'id', d.id, 'project_id', d.project_id,
                   'original_path', case when not exists (
                        select 1 from project_photos o
                         where o.project_id = d.project_id and o.state <> 'removed'
                           and o.original_path = d.original_path) then d.original_path end,
                   'processed_path', case when not exists (
                        select 1 from project_photos o
                         where o.project_id = d.project_id and o.state <> 'removed'
                           and o.processed_path = d.processed_path) then d.processed_path end
               ) order by d.created_at, d.id), '[]')
          from (select * from project_photos f
                 where f.state = 'removed' and not is_marked_v1(f.project_id)
                 order by f.created_at, f.id limit p_limit) d);
end
$$;

-- Name: end_deletion_v1(text, double precision); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.end_deletion_v1(p_project_id text, p_grace_s double precision) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
begin
    delete from deletions where project_id = p_project_id and purged_at <= ago_v1(p_grace_s);
    return not is_marked_v1(p_project_id);
end
$$;

-- Name: end_job_v1(text, text, jsonb, jsonb); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.end_job_v1(p_job_id text, p_state text, p_result jsonb, p_error jsonb) RETURNS public.jobs
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    AS $$
declare
    v_job jobs;
begin
    update jobs
       set state = p_state,
           step = '',
           progress = case when p_state = 'succeeded' then 1 else progress end,
           result = case when p_state = 'succeeded' then coalesce(p_result, '{}') end,
           error = p_error,
           worker = null,
           lease_expires_at = null,
           not_before = null,
           finished_at = clock_timestamp()
     where id = p_job_id
    returning * into v_job;
    if v_job.webhook_url is not null then
        insert into webhooks (job_id, url) values (v_job.id, v_job.webhook_url)
        on conflict (job_id) do nothing;
    end if;
    perform add_job_state_event_v1(v_job);
    perform show_job_on_project_v1(v_job);
    -- Who waits for the end alone is not woken by every percent.
    perform pg_notify('glimpse3d_ended', p_job_id);
    return v_job;
end
$$;

-- Name: end_photo_v1(text); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.end_photo_v1(p_photo_id text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
begin
    delete from project_photos where id = p_photo_id and state = 'removed';
    return found;
end
$$;

-- Name: ended_jobs_v1(jsonb); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.ended_jobs_v1(p_job_ids jsonb) RETURNS jsonb
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
    select coalesce(
               jsonb_object_agg(a.id, case when j.id is not null then job_document_v1(j) end), '{}')
      from jsonb_array_elements_text(p_job_ids) a (id)
      left join jobs j on j.id = a.id
     where j.id is null or j.finished_at is not null
$$;

-- Name: expected_seconds_v1(text, text); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.expected_seconds_v1(p_kind text, p_shape text) RETURNS jsonb
    LANGUAGE sql STABLE
    SET search_path TO 'public', 'pg_temp'
    AS $_$
    with alike as (
        select id from jobs
         where state = 'succeeded' and kind = p_kind and shape = p_shape
         order by finished_at desc limit 20
    )
    select coalesce(jsonb_object_agg(t.name, t.seconds / (select count(*) from alike)), '{}')
      from (select regexp_replace(s.stage, '-v?[0-9]+$', '') as name, sum(s.seconds) as seconds
              from job_stages s join alike a on a.id = s.job_id group by 1) t
$_$;

-- Name: expire_projects_v1(double precision, integer); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.expire_projects_v1(p_ttl_s double precision, p_limit integer DEFAULT 20) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
declare
    v_since constant timestamptz := ago_v1(p_ttl_s);
    v_id text;
    v_ids jsonb := '[]'::jsonb;
begin
    perform check_limit_v1(p_limit);
    for v_id in
        select p.id from projects p
         where p.status <> 'uploading' and p.created_at <= v_since
           and is_forgotten_v1(p.id, v_since)
         order by p.created_at, p.id limit p_limit
    loop
        -- Somebody who has the name is doing something with the project; a job may be new.
        if pg_try_advisory_xact_lock(project_name_key_v1(v_id))
                and is_forgotten_v1(v_id, v_since) then
            perform mark_project_v1(v_id);
            v_ids := v_ids || to_jsonb(v_id);
        end if;
    end loop;
    return v_ids;
end
$$;

-- Name: expire_uploads_v1(double precision, integer); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.expire_uploads_v1(p_age_s double precision, p_limit integer DEFAULT 20) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
declare
    v_since constant timestamptz := ago_v1(p_age_s);
    v_id text;
    v_ids jsonb := '[]'::jsonb;
begin
    perform check_limit_v1(p_limit);
    for v_id in
        select p.id from projects p
         where p.status = 'uploading' and p.created_at <= v_since and not is_marked_v1(p.id)
         order by p.created_at, p.id limit p_limit
    loop
        if pg_try_advisory_xact_lock(project_name_key_v1(v_id)) and not is_marked_v1(v_id)
                and exists (select 1 from projects where id = v_id and status = 'uploading') then
            perform mark_project_v1(v_id);
            v_ids := v_ids || to_jsonb(v_id);
        end if;
    end loop;
    return v_ids;
end
$$;

-- Name: file_store_v1(); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.file_store_v1() RETURNS jsonb
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
    select jsonb_build_object(
        'id', (select id from file_store),
        'originals', (
            select coalesce(jsonb_agg(n.original_path), '[]')
              from (select f.original_path from projects p
                      join project_photos f on f.project_id = p.id and f.position = 0
                     where p.status <> 'uploading' and not is_marked_v1(p.id)
                     order by p.created_at desc, p.id limit 20) n))
$$;

-- Name: find_photo_v1(text, text, text); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.find_photo_v1(p_idempotency_key text, p_fingerprint text, p_client text DEFAULT ''::text) RETURNS text
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
declare
    v_photo project_photos;
begin
    select * into v_photo from project_photos
     where client = p_client and idempotency_key = p_idempotency_key;
    if found and v_photo.fingerprint is distinct from p_fingerprint then
        raise exception using errcode = 'GL422', message = format(
            'Idempotency key %s belongs to another request.', p_idempotency_key);
    end if;
    return v_photo.id;
end
$$;

-- Name: find_upload_v1(text, text, text); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.find_upload_v1(p_idempotency_key text, p_fingerprint text, p_client text DEFAULT ''::text) RETURNS jsonb
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
declare
    v_project projects;
begin
    select * into v_project from projects
     where client = p_client and idempotency_key = p_idempotency_key;
    if not found then
        return null;
    end if;
    if v_project.fingerprint is distinct from p_fingerprint then
        raise exception using errcode = 'GL422', message = format(
            'Idempotency key %s belongs to another request.', p_idempotency_key);
    end if;
    return project_document_v1(v_project);
end
$$;

-- Name: finish_job_v1(text, bigint, text, jsonb, jsonb); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.finish_job_v1(p_job_id text, p_fence bigint, p_state text, p_result jsonb DEFAULT NULL::jsonb, p_error jsonb DEFAULT NULL::jsonb) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
declare
    v_job jobs;
begin
    if p_state not in ('succeeded', 'failed', 'cancelled') then
        raise exception using errcode = 'GL400',
            message = format('A job cannot finish as %s.', p_state);
    end if;
    if p_state = 'failed' and p_error is null then
        raise exception using errcode = 'GL400', message = 'A failed job needs an error.';
    end if;
    select * into v_job from jobs
     where id = p_job_id and fence = p_fence and state = p_state for update;
    if found then
        return job_document_v1(v_job);
    end if;
    v_job := lock_attempt_v1(p_job_id, p_fence);
    return job_document_v1(end_job_v1(p_job_id, p_state, p_result, p_error));
end
$$;

-- Name: finish_upload_v1(text, text, text, text); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.finish_upload_v1(p_project_id text, p_idempotency_key text DEFAULT NULL::text, p_fingerprint text DEFAULT ''::text, p_client text DEFAULT ''::text) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
declare
    v_project projects;
    v_other projects;
begin
    perform lock_project_v1(p_project_id);
    select * into v_project from projects where id = p_project_id for update;
    if not found or is_marked_v1(p_project_id) then
        raise exception using errcode = 'GL404',
            message = format('There is no upload %s any more.', p_project_id);
    end if;
    if v_project.status <> 'uploading' then
        if (v_project.client, v_project.idempotency_key)
                is distinct from (p_client, p_idempotency_key) then
            raise exception using errcode = 'GL409',
                message = format('Project %s is uploaded already.', p_project_id);
        end if;
        return jsonb_build_object(
            'project', project_document_v1(v_project), 'created', true,
            'photos', photos_document_v1(p_project_id));
    end if;
    loop
        begin
            -- Waits for another upload that is finishing with this key.
            update projects
               set status = 'ready', idempotency_key = p_idempotency_key,
                   fingerprint = p_fingerprint, client = p_client
             where id = p_project_id
            returning * into v_project;
            return jsonb_build_object(
            'project', project_document_v1(v_project), 'created', true,
            'photos', photos_document_v1(p_project_id));
        exception when unique_violation then
            null;
        end;
        select * into v_other from projects
         where client = p_client and idempotency_key = p_idempotency_key;
        exit when found;  -- else it was marked for deletion in between, and the key is free
    end loop;
    perform mark_project_v1(p_project_id);
    if v_other.fingerprint is distinct from p_fingerprint then
        return jsonb_build_object('mismatch', format(
            'Idempotency key %s belongs to another request.', p_idempotency_key));
    end if;
    return jsonb_build_object(
        'project', project_document_v1(v_other), 'created', false,
        'photos', photos_document_v1(v_other.id));
end
$$;

-- Name: finish_webhook_v1(text, integer, text, double precision); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.finish_webhook_v1(p_job_id text, p_attempt integer, p_error text DEFAULT NULL::text, p_retry_in_s double precision DEFAULT NULL::double precision) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
begin
    update webhooks
       set state = case
               when p_error is null then 'delivered'
               when p_retry_in_s is null then 'given_up'
               else 'pending' end,
           next_at = case
               when p_error is null or p_retry_in_s is null then next_at
               else ago_v1(-p_retry_in_s) end,
           last_error = p_error
     where job_id = p_job_id and state = 'pending' and attempts = p_attempt;
    return found;
end
$$;

-- Name: forget_v1(double precision, integer); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.forget_v1(p_age_s double precision, p_limit integer DEFAULT 100) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
declare
    v_before constant timestamptz := ago_v1(p_age_s);
    v_number bigint;
begin
    perform check_limit_v1(p_limit);
    -- Who holds a row works on it: the next round has it.
    with due as (
        select id, last_event from jobs
         where forgotten_at is null and finished_at <= v_before
         order by finished_at limit p_limit for update skip locked
    ), events as (
        delete from job_events e using due d where e.job_id = d.id and e.seq < d.last_event
    ), forgotten as (
        update jobs j set forgotten_at = clock_timestamp(), idempotency_key = null
          from due d where j.id = d.id returning 1
    ), ended as (
        select job_id from webhooks
         where state <> 'pending' and created_at <= v_before
         order by created_at limit p_limit for update skip locked
    ), messages as (
        delete from webhooks w using ended e where w.job_id = e.job_id returning 1
    ), keys as (
        select id from projects
         where idempotency_key is not null and created_at <= v_before
         order by created_at limit p_limit for update skip locked
    ), uploads as (
        update projects p set idempotency_key = null from keys k where p.id = k.id returning 1
    ), added as (
        select id from project_photos
         where idempotency_key is not null and created_at <= v_before
         order by created_at limit p_limit for update skip locked
    ), photos as (
        update project_photos f set idempotency_key = null from added a where f.id = a.id
        returning 1
    )
    select (select count(*) from forgotten) + (select count(*) from messages)
           + (select count(*) from uploads) + (select count(*) from photos)
      into v_number;
    return v_number;
end
$$;

-- Name: generation_of_v1(text, integer); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.generation_of_v1(p_project_id text, p_version integer) RETURNS integer
    LANGUAGE sql STABLE
    SET search_path TO 'public', 'pg_temp'
    AS $$
    with recursive line as (
        select m.version, m.parent, j.kind
          from gaussian_splat_models m join jobs j on j.id = m.job_id
         where m.project_id = p_project_id and m.version = p_version
        union all
        select m.version, m.parent, j.kind
          from line l
          join gaussian_splat_models m on m.project_id = p_project_id and m.version = l.parent
          join jobs j on j.id = m.job_id
         where l.kind <> 'generate'
    )
    select version from line where kind = 'generate'
$$;

-- Name: get_job_v1(text); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.get_job_v1(p_job_id text) RETURNS jsonb
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
declare
    v_job jobs;
begin
    select * into v_job from jobs where id = p_job_id;
    if not found then
        raise exception using errcode = 'GL404', message = format('There is no job %s.', p_job_id);
    end if;
    return job_document_v1(v_job);
end
$$;

-- Name: get_project_v1(text); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.get_project_v1(p_project_id text) RETURNS jsonb
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
declare
    v_project projects;
begin
    select * into v_project from projects where id = p_project_id;
    if not found then
        raise exception using errcode = 'GL404',
            message = format('There is no project %s.', p_project_id);
    end if;
    return project_document_v1(v_project);
end
$$;

-- Name: guard_functions_v1(text[], text[]); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.guard_functions_v1(p_steps text[], p_parts text[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    AS $$
declare
    v_name text;
    v_function regprocedure;
    v_role text;
begin
    foreach v_name in array p_steps || p_parts loop
        if not exists (select 1 from pg_proc
                        where proname = v_name and pronamespace = 'public'::regnamespace) then
            raise exception 'There is no function %.', v_name;
        end if;
        for v_function in select oid::regprocedure from pg_proc
                           where proname = v_name and pronamespace = 'public'::regnamespace loop
            execute format('revoke all on function %s from public', v_function);
            for v_role in select rolname from pg_roles
                           where rolname in ('anon', 'authenticated', 'service_role') loop
                execute format('revoke all on function %s from %I', v_function, v_role);
            end loop;
            if v_name = any (p_steps) then
                execute format('alter function %s security definer', v_function);
                if exists (select 1 from pg_roles where rolname = 'service_role') then
                    execute format('grant execute on function %s to service_role', v_function);
                end if;
            end if;
        end loop;
    end loop;
end
$$;

-- Name: FUNCTION guard_functions_v1(p_steps text[], p_parts text[]); Type: COMMENT; Schema: public; Owner: -

COMMENT ON FUNCTION public.guard_functions_v1(p_steps text[], p_parts text[]) IS 'Lets the service role alone execute the steps, and nobody the parts.';

-- Name: guard_tables_v1(text[]); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.guard_tables_v1(p_names text[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    AS $$
declare
    v_name text;
    v_role text;
begin
    foreach v_name in array p_names loop
        if (select relkind from pg_class where oid = format('public.%I', v_name)::regclass) = 'r'
        then
            -- Only where it is off: it locks the table.
            if not (select relrowsecurity from pg_class
                     where oid = format('public.%I', v_name)::regclass) then
                execute format('alter table public.%I enable row level security', v_name);
            end if;
            if exists (select 1 from pg_policies
                        where schemaname = 'public' and tablename = v_name
                          and policyname = 'glimpse3d_demo_read') then
                execute format('drop policy glimpse3d_demo_read on public.%I', v_name);
            end if;
        end if;
        execute format('revoke all on public.%I from public', v_name);
        for v_role in select rolname from pg_roles where rolname in ('anon', 'authenticated') loop
            execute format('revoke all on public.%I from %I', v_name, v_role);
        end loop;
        if exists (select 1 from pg_roles where rolname = 'service_role') then
            execute format('grant all on public.%I to service_role', v_name);
        end if;
    end loop;
end
$$;

-- Name: FUNCTION guard_tables_v1(p_names text[]); Type: COMMENT; Schema: public; Owner: -

COMMENT ON FUNCTION public.guard_tables_v1(p_names text[]) IS 'Lets the service role alone read and write the tables and views.';

-- Name: heartbeat_v1(text, bigint, double precision, text, double precision, text); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.heartbeat_v1(p_job_id text, p_fence bigint, p_lease_s double precision, p_stage text, p_progress double precision, p_step text DEFAULT ''::text) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
declare
    v_before jobs;
    v_job jobs;
    v_data jsonb;
begin
    perform check_lease_v1(p_lease_s);
    select * into v_before from jobs
     where id = p_job_id and fence = p_fence and state = 'running' for update;
    if not found then
        return jsonb_build_object('owned', false, 'cancel_requested', coalesce(
            (select cancel_requested from jobs where id = p_job_id), false));
    end if;
    update jobs
       set lease_expires_at = clock_timestamp() + make_interval(secs => p_lease_s),
           stage = coalesce(nullif(p_stage, ''), stage),
           false_starts = case when coalesce(nullif(p_stage, ''), stage) in ('', 'start')
               then false_starts else 0 end,
           step = left(coalesce(p_step, ''), 200),
           progress = least(greatest(progress, coalesce(nullif(p_progress, 'NaN'), 0)), 1)
     where id = p_job_id
    returning * into v_job;
    v_data := jsonb_strip_nulls(jsonb_build_object(
        'stage', v_job.stage, 'step', nullif(v_job.step, ''), 'progress', v_job.progress,
        'attempt', v_job.attempt));
    if v_job.stage <> v_before.stage then
        perform add_job_event_v1(p_job_id, 'stage', v_data);
    -- A little less than a percent: 0.29 - 0.28 is below 0.01.
    elsif v_job.progress - v_before.told_progress >= 0.01 - 1e-9 then
        perform add_job_event_v1(p_job_id, 'progress', v_data);
    end if;
    perform show_job_on_project_v1(v_job);
    return jsonb_build_object('owned', true, 'cancel_requested', v_job.cancel_requested);
end
$$;

-- Name: inspect_v1(); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.inspect_v1() RETURNS jsonb
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $_$
declare
    v_buckets jsonb;
begin
    if to_regclass('storage.buckets') is not null then
        -- Not known when this function is made elsewhere.
        execute $q$
            select coalesce(jsonb_agg(jsonb_build_object(
                       'id', b.id, 'public', b.public, 'file_size_limit', b.file_size_limit,
                       'allowed_mime_types', to_jsonb(b.allowed_mime_types)) order by b.id), '[]')
              from storage.buckets b
        $q$ into v_buckets;
    end if;
    return jsonb_build_object(
        'version', current_setting('server_version'),
        'version_number', current_setting('server_version_num')::integer,
        'schema_version', schema_version_v1(),
        'role', coalesce(
            nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role',
            session_user::text),
        'now', clock_timestamp(),
        'tables', (
            select coalesce(jsonb_agg(jsonb_build_object(
                       'name', c.relname,
                       'view', c.relkind = 'v',
                       'row_security', c.relrowsecurity,
                       'anon', (
                            select coalesce(jsonb_agg(distinct p.name order by p.name), '[]')
                              from unnest(array[
                                  'select', 'insert', 'update', 'delete', 'truncate']) p (name)
                              join pg_roles r on r.rolname in ('anon', 'authenticated')
                             where has_table_privilege(r.oid, c.oid, p.name)
                                or (p.name in ('select', 'insert', 'update')
                                    and has_any_column_privilege(r.oid, c.oid, p.name))),
                       'service', (
                            select bool_and(has_table_privilege(r.oid, c.oid, p.name))
                              from unnest(array['select', 'insert', 'update', 'delete']) p (name)
                              join pg_roles r on r.rolname = 'service_role')
                   ) order by c.relname), '[]')
              from pg_class c
             where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'v')),
        'functions', (
            select coalesce(jsonb_agg(jsonb_build_object(
                       'name', f.proname,
                       'definer', f.prosecdef,
                       'fixed_path', coalesce(
                            (select bool_or(s like 'search_path=%') from unnest(f.proconfig) s),
                            false),
                       'anon', exists (
                            select 1 from pg_roles r where r.rolname in ('anon', 'authenticated')
                               and has_function_privilege(r.oid, f.oid, 'execute')),
                       'service', (
                            select has_function_privilege(r.oid, f.oid, 'execute')
                              from pg_roles r where r.rolname = 'service_role')
                   ) order by f.proname, f.oid), '[]')
              from pg_proc f
             where f.pronamespace = 'public'::regnamespace),
        'policies', (
            select coalesce(jsonb_agg(jsonb_build_object(
                       'schema', l.schemaname, 'table', l.tablename, 'name', l.policyname,
                       'permissive', l.permissive = 'PERMISSIVE', 'command', lower(l.cmd),
                       'roles', to_jsonb(l.roles))
                       order by l.schemaname, l.tablename, l.policyname), '[]')
              from pg_policies l
             where l.schemaname in ('public', 'storage')),
        'buckets', v_buckets);
end
$_$;

-- Name: FUNCTION inspect_v1(); Type: COMMENT; Schema: public; Owner: -

COMMENT ON FUNCTION public.inspect_v1() IS 'What `glimpse3d doctor` looks at.';

-- Name: is_false_start_v1(public.jobs); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.is_false_start_v1(p_job public.jobs) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'public', 'pg_temp'
    AS $$
    -- 20 releases take a quarter of an hour, 20 leases as long as they are: then each is an attempt
    -- like any other.
    select p_job.stage in ('', 'start') and p_job.false_starts < 20
$$;

-- Name: is_forgotten_v1(text, timestamp with time zone); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.is_forgotten_v1(p_project_id text, p_since timestamp with time zone) RETURNS boolean
    LANGUAGE sql STABLE
    SET search_path TO 'public', 'pg_temp'
    AS $$
    select not is_marked_v1(p_project_id) and not exists (
        select 1 from jobs j where j.project_id = p_project_id
           and (j.finished_at is null or j.finished_at > p_since))
       and not exists (
        select 1 from project_photos f where f.project_id = p_project_id and f.created_at > p_since)
$$;

-- Name: is_marked_v1(text); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.is_marked_v1(p_project_id text) RETURNS boolean
    LANGUAGE sql STABLE
    SET search_path TO 'public', 'pg_temp'
    AS $$
    select exists (select 1 from deletions where project_id = p_project_id)
$$;

-- Name: job_document_v1(public.jobs); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.job_document_v1(p_job public.jobs) RETURNS jsonb
    LANGUAGE sql STABLE
    SET search_path TO 'public', 'pg_temp'
    AS $$
    select jsonb_build_object(
        'id', p_job.id,
        'number', p_job.queue_number,
        'project_id', p_job.project_id,
        'kind', p_job.kind,
        'state', p_job.state,
        'options', p_job.options,
        'stage', p_job.stage,
        'step', p_job.step,
        'progress', p_job.progress,
        'attempt', p_job.attempt,
        'max_attempts', p_job.max_attempts,
        'fence', p_job.fence,
        'cancel_requested', p_job.cancel_requested,
        'photos', p_job.photos,
        'timings', (
            select coalesce(jsonb_object_agg(s.stage, s.seconds), '{}')
              from job_stages s where s.job_id = p_job.id),
        'memory', (
            select coalesce(jsonb_object_agg(m.stage, m.memory), '{}')
              from (select s.stage, stage_memory_v1(s.detail) as memory
                      from job_stages s where s.job_id = p_job.id) m
             where m.memory <> '{}'),
        'expected', case when p_job.state in ('queued', 'running')
            then expected_seconds_v1(p_job.kind, p_job.shape) else '{}' end,
        'error', p_job.error,
        'last_error', p_job.last_error,
        'result', p_job.result,
        'queue_position', case when p_job.state = 'queued' then (
            select o.place from queue_order_v1() o where o.job_id = p_job.id) end,
        'ordinal', (
            select count(*) from jobs o
             where o.project_id = p_job.project_id and o.kind = p_job.kind
               and o.queue_number <= p_job.queue_number),
        'created_at', p_job.created_at,
        'step_started_at', p_job.step_started_at,
        'started_at', p_job.started_at,
        'finished_at', p_job.finished_at,
        -- what the moments above are to be compared with
        'read_at', statement_timestamp())
$$;

-- Name: job_events_v1(text, bigint, integer); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.job_events_v1(p_job_id text, p_after bigint DEFAULT 0, p_limit integer DEFAULT 200) RETURNS jsonb
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
declare
    v_number bigint;
begin
    perform check_limit_v1(p_limit);
    select queue_number into v_number from jobs where id = p_job_id;
    if not found then
        raise exception using errcode = 'GL404', message = format('There is no job %s.', p_job_id);
    end if;
    return (
        select coalesce(jsonb_agg(
                   to_jsonb(e) || jsonb_build_object('job_number', v_number) order by e.seq), '[]')
          from (select * from job_events
                 where job_id = p_job_id and seq > p_after
                 order by seq limit p_limit) e);
end
$$;

-- Name: jobs_to_sweep_v1(integer); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.jobs_to_sweep_v1(p_limit integer DEFAULT 20) RETURNS jsonb
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
begin
    perform check_limit_v1(p_limit);
    return (
        select coalesce(jsonb_agg(
                   job_document_v1(j.job) order by j.finished_at, j.queue_number), '[]')
          from (select c as job, c.finished_at, c.queue_number from jobs c
                 where c.swept_at is null and (c.state in ('failed', 'cancelled')
                                               or (c.state = 'succeeded'
                                                   and (c.fence > 1 or c.shown)))
                   and not is_marked_v1(c.project_id)
                   and not exists (select 1 from jobs a where a.project_id = c.project_id
                                      and a.state in ('queued', 'running'))
                 order by c.finished_at, c.queue_number limit p_limit) j);
end
$$;

-- Name: list_projects_v1(text, text, text, integer); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.list_projects_v1(p_status text DEFAULT NULL::text, p_after_at text DEFAULT NULL::text, p_after_id text DEFAULT NULL::text, p_limit integer DEFAULT 20) RETURNS jsonb
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
declare
    v_projects jsonb;
begin
    perform check_limit_v1(p_limit);
    select coalesce(jsonb_agg(
               project_document_v1(p.project) order by p.created_at desc, p.id desc), '[]')
      into v_projects
      from (select c as project, c.created_at, c.id from projects c
             where c.status <> 'uploading' and not is_marked_v1(c.id)
               and (p_status is null or c.status = p_status)
               and (p_after_at is null
                    or (c.created_at, c.id) < (p_after_at::timestamptz, p_after_id))
             order by c.created_at desc, c.id desc limit p_limit + 1) p;
    return jsonb_build_object(
        'projects', case when jsonb_array_length(v_projects) > p_limit
            then v_projects - p_limit else v_projects end,
        'more', jsonb_array_length(v_projects) > p_limit);
end
$$;

-- Name: lock_attempt_v1(text, bigint); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.lock_attempt_v1(p_job_id text, p_fence bigint) RETURNS public.jobs
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    AS $$
declare
    v_job jobs;
begin
    select * into v_job from jobs where id = p_job_id for update;
    if not found then
        raise exception using errcode = 'GL404', message = format('There is no job %s.', p_job_id);
    end if;
    if v_job.state <> 'running' or v_job.fence <> p_fence then
        raise exception using errcode = 'GL410', message = format(
            'The attempt with fence %s does not hold job %s: it is %s, its fence is %s.',
            p_fence, p_job_id, v_job.state, v_job.fence);
    end if;
    return v_job;
end
$$;

-- Name: lock_idle_project_v1(text); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.lock_idle_project_v1(p_project_id text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    AS $$
declare
    v_status text;
    v_busy text;
begin
    perform lock_project_v1(p_project_id);
    select status into v_status from projects where id = p_project_id for no key update;
    if not found or is_marked_v1(p_project_id) then
        raise exception using errcode = 'GL404',
            message = format('There is no project %s.', p_project_id);
    end if;
    if v_status = 'uploading' then
        raise exception using errcode = 'GL409',
            message = format('Project %s is not uploaded yet.', p_project_id);
    end if;
    select id into v_busy from jobs
     where project_id = p_project_id and state in ('queued', 'running');
    if found then
        raise exception using errcode = 'GL423', detail = v_busy, message = format(
            'Project %s is busy with job %s.', p_project_id, v_busy);
    end if;
end
$$;

-- Name: lock_project_v1(text); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.lock_project_v1(p_project_id text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    AS $$
begin
    perform pg_advisory_xact_lock(project_name_key_v1(p_project_id));
end
$$;

-- Name: mark_project_v1(text); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.mark_project_v1(p_project_id text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    AS $$
begin
    insert into deletions (project_id) values (p_project_id) on conflict do nothing;
    -- Whoever uploads with the key again wants a project that stays.
    update projects set idempotency_key = null
     where id = p_project_id and idempotency_key is not null;
end
$$;

-- Name: mark_swept_v1(text); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.mark_swept_v1(p_job_id text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
begin
    update jobs set swept_at = clock_timestamp() where id = p_job_id and finished_at is not null;
    return found;
end
$$;

-- Name: name_file_store_v1(text); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.name_file_store_v1(p_id text) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
begin
    if coalesce(p_id, '') = '' then
        raise exception using errcode = 'GL400', message = 'A folder needs an id.';
    end if;
    insert into file_store (id) values (p_id) on conflict do nothing;
    return (select id from file_store);
end
$$;

-- Name: project_photos; Type: TABLE; Schema: public; Owner: -

CREATE TABLE public.project_photos (
    id text NOT NULL,
    project_id text NOT NULL,
    state text DEFAULT 'arriving'::text NOT NULL,
    "position" integer,
    original_path text NOT NULL,
    processed_path text NOT NULL,
    background_engine text NOT NULL,
    sha256 text DEFAULT ''::text NOT NULL,
    side text,
    azimuth_deg double precision,
    elevation_deg double precision,
    notes jsonb DEFAULT '[]'::jsonb NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    idempotency_key text,
    fingerprint text DEFAULT ''::text NOT NULL,
    client text DEFAULT ''::text NOT NULL,
    CONSTRAINT project_photos_azimuth_is_an_angle CHECK (((azimuth_deg >= ('-360'::integer)::double precision) AND (azimuth_deg <= (360)::double precision))),
    CONSTRAINT project_photos_elevation_is_an_angle CHECK (((elevation_deg >= ('-90'::integer)::double precision) AND (elevation_deg <= (90)::double precision))),
    CONSTRAINT project_photos_id_is_a_path_component CHECK ((id ~ '^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$'::text)),
    CONSTRAINT project_photos_idempotency_key_has_1_to_255_characters CHECK (((length(idempotency_key) >= 1) AND (length(idempotency_key) <= 255))),
    CONSTRAINT project_photos_listed_iff_in_a_place CHECK (((state = 'listed'::text) = ("position" IS NOT NULL))),
    CONSTRAINT project_photos_notes_is_a_list CHECK ((jsonb_typeof(notes) = 'array'::text)),
    CONSTRAINT project_photos_original_path_is_set CHECK ((original_path <> ''::text)),
    CONSTRAINT project_photos_position_is_0_to_7 CHECK ((("position" >= 0) AND ("position" <= 7))),
    CONSTRAINT project_photos_processed_path_is_set CHECK ((processed_path <> ''::text)),
    CONSTRAINT project_photos_side_is_known CHECK ((side = ANY (ARRAY['front'::text, 'left'::text, 'right'::text, 'back'::text, 'top'::text]))),
    CONSTRAINT project_photos_side_or_angles CHECK (((side IS NULL) OR ((azimuth_deg IS NULL) AND (elevation_deg IS NULL)))),
    CONSTRAINT project_photos_state_is_known CHECK ((state = ANY (ARRAY['arriving'::text, 'listed'::text, 'kept'::text, 'removed'::text])))
);

-- Name: TABLE project_photos; Type: COMMENT; Schema: public; Owner: -

COMMENT ON TABLE public.project_photos IS 'Photos of projects, one row per file that was sent, also of those that were taken out again.';

-- Name: photo_document_v1(public.project_photos); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.photo_document_v1(p_photo public.project_photos) RETURNS jsonb
    LANGUAGE sql STABLE
    SET search_path TO 'public', 'pg_temp'
    AS $$
    select to_jsonb(p_photo)
           - array['project_id', 'state', 'idempotency_key', 'fingerprint', 'client']
$$;

-- Name: photos_document_v1(text); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.photos_document_v1(p_project_id text) RETURNS jsonb
    LANGUAGE sql STABLE
    SET search_path TO 'public', 'pg_temp'
    AS $$
    select coalesce(jsonb_agg(photo_document_v1(f) order by f.position), '[]')
      from project_photos f where f.project_id = p_project_id and f.state = 'listed'
$$;

-- Name: project_detail_v1(text); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.project_detail_v1(p_project_id text) RETURNS jsonb
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
declare
    v_hidden constant text[] := array['id', 'project_id', 'job_id', 'stage', 'created_at'];
    v_detail jsonb;
begin
    select jsonb_build_object(
        'project', project_document_v1(p),
        'photos', photos_document_v1(p.id),
        'generated_photos', coalesce(generated.photos, '[]'),
        'registrations', coalesce((
            select s.detail -> 'registrations' from job_stages s
             where s.job_id = generated.id and s.detail ? 'registrations'
             order by s.ordinal desc limit 1), '[]'),
        'views', (
            select coalesce(jsonb_agg(to_jsonb(v) - v_hidden order by v.view_index), '[]')
              from multiview_generation v where v.job_id = generated.id),
        'depths', (
            select coalesce(jsonb_agg(to_jsonb(d) - v_hidden order by d.view_index), '[]')
              from depth_maps d where d.job_id = generated.id),
        'models', (
            select coalesce(jsonb_agg(to_jsonb(m) - v_hidden order by m.version), '[]')
              from gaussian_splat_models m where m.project_id = p.id),
        'made_by', (
            select coalesce(jsonb_object_agg(m.version, m.job_id), '{}')
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
        'edits', (
            select coalesce(jsonb_agg(view_edit_document_v1(d) order by d.id), '[]')
              from view_edits d where d.project_id = p.id),
        'contact_sheet', (
            select to_jsonb(c) - v_hidden
              from contact_sheets c
             where c.project_id = p.id and c.model_version = p.current_version
             order by c.id desc limit 1),
        'job', (
            select job_document_v1(j) from jobs j where j.project_id = p.id
             order by j.state in ('queued', 'running') desc, j.queue_number desc limit 1))
      into v_detail
      from projects p
      left join lateral (
            select j.id, j.photos from jobs j
             where j.project_id = p.id and j.kind = 'generate'
             order by j.state in ('queued', 'running') desc,
                      coalesce(j.id = (
                          select m.job_id from gaussian_splat_models m
                           where m.project_id = p.id
                             and m.version = generation_of_v1(p.id, p.current_version)), false) desc,
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

-- Name: projects; Type: TABLE; Schema: public; Owner: -

CREATE TABLE public.projects (
    id text NOT NULL,
    status text DEFAULT 'ready'::text NOT NULL,
    current_step text DEFAULT ''::text NOT NULL,
    progress_percentage double precision DEFAULT 0 NOT NULL,
    error text,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    updated_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    idempotency_key text,
    fingerprint text,
    client text DEFAULT ''::text NOT NULL,
    photos_revision bigint DEFAULT 0 NOT NULL,
    current_version integer,
    CONSTRAINT projects_id_is_a_path_component CHECK ((id ~ '^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$'::text)),
    CONSTRAINT projects_idempotency_key_has_1_to_255_characters CHECK (((length(idempotency_key) >= 1) AND (length(idempotency_key) <= 255))),
    CONSTRAINT projects_progress_is_a_percentage CHECK (((progress_percentage >= (0)::double precision) AND (progress_percentage <= (100)::double precision))),
    CONSTRAINT projects_status_is_known CHECK ((status = ANY (ARRAY['uploading'::text, 'preprocessing'::text, 'ready'::text, 'multiview_generating'::text, 'depth_estimating'::text, 'reconstructing'::text, 'enhancing'::text, 'refining'::text, 'exporting'::text, 'completed'::text, 'failed'::text, 'cancelled'::text])))
);

-- Name: TABLE projects; Type: COMMENT; Schema: public; Owner: -

COMMENT ON TABLE public.projects IS 'One object that was photographed, and where its newest job stands.';

-- Name: project_document_v1(public.projects); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.project_document_v1(p_project public.projects) RETURNS jsonb
    LANGUAGE sql STABLE
    SET search_path TO 'public', 'pg_temp'
    AS $$
    select to_jsonb(p_project)
           - array['idempotency_key', 'fingerprint', 'client']
           || jsonb_build_object(
               'original_path', f.original_path, 'processed_path', f.processed_path,
               'background_engine', f.background_engine)
      from project_photos f where f.project_id = p_project.id and f.position = 0
$$;

-- Name: project_events_v1(text, bigint, bigint, integer); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.project_events_v1(p_project_id text, p_after_job bigint DEFAULT 0, p_after_seq bigint DEFAULT 0, p_limit integer DEFAULT 200) RETURNS jsonb
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
begin
    perform check_limit_v1(p_limit);
    perform 1 from projects where id = p_project_id;
    if not found then
        raise exception using errcode = 'GL404',
            message = format('There is no project %s.', p_project_id);
    end if;
    return (
        select coalesce(jsonb_agg(to_jsonb(e) order by e.job_number, e.seq), '[]')
          from (select v.*, j.queue_number as job_number
                  from jobs j join job_events v on v.job_id = j.id
                 where j.project_id = p_project_id
                   and j.queue_number >= p_after_job
                   and (j.queue_number > p_after_job or v.seq > p_after_seq)
                 order by j.queue_number, v.seq limit p_limit) e);
end
$$;

-- Name: project_jobs_v1(text); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.project_jobs_v1(p_project_id text) RETURNS jsonb
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
begin
    perform 1 from projects where id = p_project_id;
    if not found then
        raise exception using errcode = 'GL404',
            message = format('There is no project %s.', p_project_id);
    end if;
    return (
        select coalesce(jsonb_agg(jsonb_build_object(
                   'job', job_document_v1(j), 'stages', committed_v1(j.id)
               ) order by j.queue_number), '[]')
          from jobs j where j.project_id = p_project_id);
end
$$;

-- Name: project_name_key_v1(text); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.project_name_key_v1(p_project_id text) RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'public', 'pg_temp'
    AS $$
    select hashtextextended('glimpse3d project ' || p_project_id, 0)
$$;

-- Name: publish_preview_v1(text, bigint, jsonb); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.publish_preview_v1(p_job_id text, p_fence bigint, p_preview jsonb) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
declare
    v_job jobs := lock_attempt_v1(p_job_id, p_fence);
begin
    -- Its file may outlive the attempt where it cannot be deleted.
    update jobs set shown = true where id = p_job_id and not shown;
    perform add_job_event_v1(p_job_id, 'preview', jsonb_strip_nulls(jsonb_build_object(
        'stage', p_preview ->> 'stage',
        'step', nullif(left(p_preview ->> 'step', 200), ''),
        'path', p_preview ->> 'path',
        'splat_count', (p_preview ->> 'splat_count')::bigint,
        'attempt', v_job.attempt)));
    return jsonb_build_object('told', true);
end
$$;

-- Name: purge_project_v1(text); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.purge_project_v1(p_project_id text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
begin
    perform lock_project_v1(p_project_id);
    perform 1 from deletions where project_id = p_project_id for update;
    if not found then
        if exists (select 1 from projects where id = p_project_id) then
            raise exception using errcode = 'GL409',
                message = format('Project %s is not marked for deletion.', p_project_id);
        end if;
        return true;
    end if;
    perform 1 from jobs where project_id = p_project_id order by id for update;
    if exists (select 1 from jobs where project_id = p_project_id and state = 'running'
                  and lease_expires_at > clock_timestamp()) then
        return false;
    end if;
    perform pg_notify('glimpse3d_jobs', id), pg_notify('glimpse3d_ended', id)
       from jobs where project_id = p_project_id;
    delete from projects where id = p_project_id;
    update deletions set purged_at = coalesce(purged_at, clock_timestamp())
     where project_id = p_project_id;
    perform pg_notify('glimpse3d_projects', p_project_id);
    return true;
end
$$;

-- Name: put_view_edit_v1(text, jsonb); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.put_view_edit_v1(p_project_id text, p_edit jsonb) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
declare
    v_replaced jsonb;
    v_edit view_edits;
begin
    perform lock_idle_project_v1(p_project_id);
    if jsonb_typeof(p_edit -> 'seen') = 'array' and p_edit -> 'seen' <> (
            select coalesce(jsonb_agg(d.id order by d.id), '[]') from view_edits d
             where d.project_id = p_project_id and d.version = (p_edit ->> 'version')::integer
               and d.applied_by is null) then
        raise exception using errcode = 'GL409', message = format(
            'The edits of project %s have been changed meanwhile.', p_project_id);
    end if;
    v_replaced := take_view_edit_v1(
        p_project_id, (p_edit ->> 'version')::integer, (p_edit ->> 'view_index')::integer);
    perform check_version_v1(p_project_id, (p_edit ->> 'version')::integer);
    insert into view_edits (
        project_id, version, view_index, kind, image_path, sha256, engine, notes, source_version)
    select p_project_id, r.version, r.view_index, r.kind, r.image_path, r.sha256,
           coalesce(r.engine, ''), coalesce(r.notes, '[]'), r.source_version
      from jsonb_to_record(p_edit) as r (
        version integer, view_index integer, kind text, image_path text, sha256 text, engine text,
        notes jsonb, source_version integer)
    returning * into v_edit;
    return jsonb_build_object('edit', view_edit_document_v1(v_edit), 'replaced', v_replaced);
end
$$;

-- Name: queue_order_v1(); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.queue_order_v1() RETURNS TABLE(job_id text, place bigint)
    LANGUAGE sql STABLE
    SET search_path TO 'public', 'pg_temp'
    AS $$
    with waiting as (
        select j.id, j.client, j.queue_number, j.started_at is not null as begun,
               row_number() over (
                   partition by j.client, j.started_at is not null order by j.queue_number) as turn
          from jobs j where j.state = 'queued'
    ), clients as (
        select j.client, count(j.started_at) as under_way,
               min(j.queue_number) filter (where j.started_at is null) as first_number,
               (select max(s.started_at) from jobs s where s.client = j.client) as served_at
          from jobs j where j.state in ('queued', 'running') group by j.client
    )
    select w.id, row_number() over (order by
               w.begun desc, case when w.begun then w.queue_number end,
               c.under_way + w.turn, w.turn, c.served_at nulls first, c.first_number)
      from waiting w join clients c on c.client = w.client
$$;

-- Name: queue_v1(); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.queue_v1() RETURNS jsonb
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
    select jsonb_build_object('queued', '{}'::jsonb, 'running', '{}'::jsonb)
           || coalesce(jsonb_object_agg(s.state, s.kinds), '{}')
      from (select c.state, jsonb_object_agg(c.kind, c.jobs) as kinds
              from (select state, kind, count(*) as jobs from jobs
                     where state in ('queued', 'running') group by state, kind) c
             group by c.state) s
$$;

-- Name: referenced_paths_v1(text); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.referenced_paths_v1(p_project_id text) RETURNS jsonb
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
    with named (bucket, path) as (
        select 'project-uploads', original_path from project_photos
               where project_id = p_project_id
        union select 'processed-images', processed_path from project_photos
               where project_id = p_project_id
        union select 'multiview-images', image_path from multiview_generation
               where project_id = p_project_id
        union select 'multiview-images', image_path from view_edits
               where project_id = p_project_id and image_path is not null
        union select 'depth-maps', unnest(array[depth_path, heat_map_path]) from depth_maps
               where project_id = p_project_id
        union select 'enhanced-views', unnest(array[image_path, before_path, after_path])
                from enhanced_views where project_id = p_project_id
        union select '3d-models', model_path from gaussian_splat_models
               where project_id = p_project_id
        union select '3d-models', unnest(array[thumbnail_path, turntable_path])
                from model_previews where project_id = p_project_id
        union select '3d-models', image_path from contact_sheets where project_id = p_project_id
        union select '3d-models', file_path from export_history where project_id = p_project_id
        union select b.bucket, f.value
                from job_stages s
                join jobs j on j.id = s.job_id and j.project_id = p_project_id
               cross join lateral unnest(case s.stage
                    when 'generator' then array['3d-models']
                    when 'views' then array['multiview-images']
                    when 'depth' then array['depth-maps']
                    when 'photos' then array['multiview-images']
                    else array['project-uploads', 'processed-images', 'multiview-images',
                               'depth-maps', 'enhanced-views', '3d-models'] end) as b (bucket)
               cross join lateral jsonb_each_text(
                    case when jsonb_typeof(s.detail -> 'files') = 'object'
                        then s.detail -> 'files' else '{}' end) f
    )
    select (select jsonb_object_agg(g.bucket, g.paths)
              from (select bucket, jsonb_agg(path) as paths from named
                     where path <> '' group by bucket) g)
      from projects p
     where p.id = p_project_id and p.status <> 'uploading' and not is_marked_v1(p.id)
       and not exists (select 1 from jobs a where a.project_id = p.id
                          and a.state in ('queued', 'running'))
$$;

-- Name: release_job_v1(text, bigint, jsonb, double precision); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.release_job_v1(p_job_id text, p_fence bigint, p_error jsonb DEFAULT NULL::jsonb, p_delay_s double precision DEFAULT 0) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
declare
    v_job jobs;
    v_told jobs;
    v_free boolean;
begin
    if p_delay_s is null or p_delay_s not between 0 and 86400 then
        raise exception using errcode = 'GL400',
            message = format('delay_s must be 0 to 86400, not %s.', p_delay_s);
    end if;
    select * into v_job from jobs
     where id = p_job_id and fence = p_fence and fence > 0
       and state in ('queued', 'failed', 'cancelled') for update;
    if found then
        return job_document_v1(v_job);
    end if;
    v_job := lock_attempt_v1(p_job_id, p_fence);
    -- An error that names another stage is not of the start: a heartbeat was too late to say so.
    v_free := p_error is null or (
        is_false_start_v1(v_job) and coalesce(p_error ->> 'stage', '') in ('', 'start'));
    if p_error is not null then
        update jobs set last_error = p_error where id = p_job_id;
    end if;
    if v_job.cancel_requested then
        return job_document_v1(end_job_v1(p_job_id, 'cancelled', null, null));
    end if;
    if not v_free and v_job.attempt >= v_job.max_attempts then
        return job_document_v1(end_job_v1(p_job_id, 'failed', null, p_error));
    end if;
    if v_free and p_error is not null then
        update jobs set false_starts = false_starts + 1 where id = p_job_id;
        p_delay_s := greatest(p_delay_s, least(0.5 * 2 ^ v_job.false_starts, 60));
    end if;
    update jobs
       set state = 'queued', step = '', worker = null, lease_expires_at = null,
           not_before = case when p_delay_s > 0 then ago_v1(-p_delay_s) end,
           attempt = case when v_free then attempt - 1 else attempt end
     where id = p_job_id
    returning * into v_job;
    -- The job has no error, it goes on; its event says why it has to.
    v_told := v_job;
    v_told.error := p_error;
    perform add_job_state_event_v1(v_told);
    perform show_job_on_project_v1(v_job);
    return job_document_v1(v_job);
end
$$;

-- Name: restore_version_v1(text, integer); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.restore_version_v1(p_project_id text, p_version integer) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
declare
    v_project projects;
begin
    perform lock_idle_project_v1(p_project_id);
    perform check_version_v1(p_project_id, p_version);
    update projects set current_version = p_version where id = p_project_id
    returning * into v_project;
    return project_document_v1(v_project);
end
$$;

-- Name: schema_version_v1(); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.schema_version_v1() RETURNS text
    LANGUAGE sql IMMUTABLE SECURITY DEFINER PARALLEL SAFE
    SET search_path TO 'public', 'pg_temp'
    AS $$
    select '20261130000001'
$$;

-- Name: FUNCTION schema_version_v1(); Type: COMMENT; Schema: public; Owner: -

COMMENT ON FUNCTION public.schema_version_v1() IS 'Timestamp of the newest migration.';

-- Name: show_job_on_project_v1(public.jobs); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.show_job_on_project_v1(p_job public.jobs) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    AS $$
declare
    v_status text := case p_job.state
        when 'queued' then 'ready'
        when 'running' then stage_status_v1(p_job.kind, p_job.stage)
        when 'succeeded' then 'completed'
        else p_job.state end;
    v_step text := case
        when p_job.state = 'queued' then 'queued'
        when p_job.state = 'succeeded' then 'completed'
        when p_job.stage = '' then 'starting'
        else p_job.stage end;
    v_error text := case when p_job.state = 'failed' then p_job.error ->> 'detail' end;
begin
    update projects
       set status = v_status,
           current_step = v_step,
           progress_percentage = 100 * p_job.progress,
           error = v_error
     where id = p_job.project_id
       and (status, current_step, progress_percentage, error)
           is distinct from (v_status, v_step, 100 * p_job.progress, v_error);
end
$$;

-- Name: stage_memory_v1(jsonb); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.stage_memory_v1(p_detail jsonb) RETURNS jsonb
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'public', 'pg_temp'
    AS $$
    select coalesce(jsonb_object_agg(m.key, m.value), '{}')
      from jsonb_each(case
               when jsonb_typeof(p_detail -> 'replica_peak_memory_bytes') = 'object'
                   then p_detail -> 'replica_peak_memory_bytes'
                        || jsonb_build_object('Driver', p_detail -> 'peak_memory_bytes')
               else jsonb_build_object('Driver', p_detail -> 'peak_memory_bytes') end) m
     where jsonb_typeof(m.value) = 'number'
$$;

-- Name: stage_status_v1(text, text); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.stage_status_v1(p_kind text, p_stage text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'public', 'pg_temp'
    AS $$
    select case
        when p_kind = 'export' then 'exporting'
        when p_kind = 'refine' and p_stage = 'enhance' then 'enhancing'
        when p_kind = 'refine' then 'refining'
        when p_stage = 'depth' then 'depth_estimating'
        when p_stage in ('generator', 'photos', 'splats', 'previews', 'contact-sheet')
            then 'reconstructing'
        else 'multiview_generating'
    end
$$;

-- Name: submit_job_v1(text, text, jsonb, text, text, integer, integer, text, text, text); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.submit_job_v1(p_project_id text, p_kind text, p_options jsonb, p_fingerprint text, p_idempotency_key text DEFAULT NULL::text, p_max_attempts integer DEFAULT 3, p_max_queued integer DEFAULT NULL::integer, p_client text DEFAULT ''::text, p_shape text DEFAULT ''::text, p_webhook_url text DEFAULT NULL::text) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
declare
    v_status text;
    v_current integer;
    v_version integer;
    v_job jobs;
    v_busy text;
begin
    perform lock_project_v1(p_project_id);
    -- Two submissions to one project come one after the other from here.
    select status, current_version into v_status, v_current
      from projects where id = p_project_id for no key update;
    if not found or is_marked_v1(p_project_id) then
        raise exception using errcode = 'GL404',
            message = format('There is no project %s.', p_project_id);
    end if;
    if v_status = 'uploading' then
        raise exception using errcode = 'GL409',
            message = format('Project %s is not uploaded yet.', p_project_id);
    end if;

    select * into v_job from jobs
     where client = p_client and idempotency_key = p_idempotency_key;
    if not found then
        select id into v_busy from jobs
         where project_id = p_project_id and state in ('queued', 'running');
        if found then
            raise exception using errcode = 'GL423', detail = v_busy, message = format(
                'Project %s is busy with job %s.', p_project_id, v_busy);
        end if;
        -- What begins with a version has it in its options, whatever becomes current later.
        if p_kind <> 'generate' or p_options ->> 'from_stage' is not null then
            if v_current is null then
                raise exception using errcode = 'GL425', message = case
                    when p_kind = 'generate' then format(
                        'Project %s has no version yet whose stages could be kept: generate one '
                        'without from.', p_project_id)
                    else format(
                        'Project %s has no model yet: generate one before %s.',
                        p_project_id, p_kind) end;
            end if;
            v_version := coalesce((p_options ->> 'version')::integer, v_current);
            perform check_version_v1(p_project_id, v_version);
            p_options := p_options || jsonb_build_object('version', v_version);
        end if;

        -- Submissions to other projects may slip in between: a few jobs too many do no harm.
        if p_max_queued <= (select count(*) from jobs where state = 'queued') then
            raise exception using errcode = 'GL503', message = format(
                '%s jobs are waiting already.', p_max_queued);
        end if;

        insert into jobs (
            project_id, kind, options, fingerprint, idempotency_key, max_attempts, client, shape,
            webhook_url, photos)
        values (
            p_project_id, p_kind, p_options, p_fingerprint, p_idempotency_key, p_max_attempts,
            p_client, p_shape, p_webhook_url,
            -- Nobody changes them meanwhile: that takes the project's name, too. What goes on from a
            -- version works with the photos of that one.
            case when p_kind <> 'generate' then '[]'
                else coalesce((
                    select nullif(j.photos, '[]') from gaussian_splat_models m
                      join jobs j on j.id = m.job_id
                     where m.project_id = p_project_id
                       and m.version = generation_of_v1(p_project_id, v_version)),
                    photos_document_v1(p_project_id)) end)
        on conflict (client, idempotency_key) where idempotency_key is not null do nothing
        returning * into v_job;
        if found then
            perform add_job_state_event_v1(v_job);
            perform show_job_on_project_v1(v_job);
            return jsonb_build_object('job', job_document_v1(v_job), 'created', true);
        end if;
        -- Somebody used the key for another project a moment ago.
        select * into v_job from jobs
         where client = p_client and idempotency_key = p_idempotency_key;
    end if;

    if v_job.fingerprint is distinct from p_fingerprint then
        raise exception using errcode = 'GL422', message = format(
            'Idempotency key %s belongs to another request.', p_idempotency_key);
    end if;
    return jsonb_build_object('job', job_document_v1(v_job), 'created', false);
end
$$;

-- Name: take_photo_back_v1(text); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.take_photo_back_v1(p_photo_id text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
begin
    update project_photos set state = 'removed' where id = p_photo_id and state = 'arriving';
    return not exists (
        select 1 from project_photos where id = p_photo_id and state in ('listed', 'kept'));
end
$$;

-- Name: take_view_edit_v1(text, integer, integer); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.take_view_edit_v1(p_project_id text, p_version integer, p_view_index integer) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'public', 'pg_temp'
    AS $$
declare
    v_edit view_edits;
begin
    perform lock_idle_project_v1(p_project_id);
    delete from view_edits
     where project_id = p_project_id and version = p_version and view_index = p_view_index
       and applied_by is null
    returning * into v_edit;
    return case when v_edit.id is not null then view_edit_document_v1(v_edit) end;
end
$$;

-- Name: touch_updated_at(); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.touch_updated_at() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'public', 'pg_temp'
    AS $$
begin
    new.updated_at := clock_timestamp();
    return new;
end
$$;

-- Name: view_edits; Type: TABLE; Schema: public; Owner: -

CREATE TABLE public.view_edits (
    id bigint NOT NULL,
    project_id text NOT NULL,
    version integer NOT NULL,
    view_index integer NOT NULL,
    kind text NOT NULL,
    image_path text,
    sha256 text,
    engine text DEFAULT ''::text NOT NULL,
    notes jsonb DEFAULT '[]'::jsonb NOT NULL,
    source_version integer,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    applied_by text,
    CONSTRAINT view_edits_image_path_is_set CHECK ((image_path <> ''::text)),
    CONSTRAINT view_edits_kind_is_known CHECK ((kind = ANY (ARRAY['replace'::text, 'strike'::text, 'restore'::text]))),
    CONSTRAINT view_edits_picture_iff_replaced CHECK ((((kind = 'replace'::text) = (image_path IS NOT NULL)) AND ((image_path IS NULL) = (sha256 IS NULL)))),
    CONSTRAINT view_edits_source_iff_restored CHECK (((kind = 'restore'::text) = (source_version IS NOT NULL))),
    CONSTRAINT view_edits_view_index_is_not_negative CHECK ((view_index >= 0))
);

-- Name: TABLE view_edits; Type: COMMENT; Schema: public; Owner: -

COMMENT ON TABLE public.view_edits IS 'Views that somebody replaced, struck out or restored: what waits, and what was done.';

-- Name: view_edit_document_v1(public.view_edits); Type: FUNCTION; Schema: public; Owner: -

CREATE FUNCTION public.view_edit_document_v1(p_edit public.view_edits) RETURNS jsonb
    LANGUAGE sql STABLE
    SET search_path TO 'public', 'pg_temp'
    AS $$
    select to_jsonb(p_edit) - 'project_id'
$$;

-- Name: contact_sheets; Type: TABLE; Schema: public; Owner: -

CREATE TABLE public.contact_sheets (
    id bigint NOT NULL,
    project_id text NOT NULL,
    job_id text NOT NULL,
    stage text NOT NULL,
    model_version integer NOT NULL,
    image_path text NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT contact_sheets_image_path_is_set CHECK ((image_path <> ''::text))
);

-- Name: TABLE contact_sheets; Type: COMMENT; Schema: public; Owner: -

COMMENT ON TABLE public.contact_sheets IS 'Pictures of whole projects with renders of one model version.';

-- Name: contact_sheets_id_seq; Type: SEQUENCE; Schema: public; Owner: -

ALTER TABLE public.contact_sheets ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.contact_sheets_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

-- Name: deletions; Type: TABLE; Schema: public; Owner: -

CREATE TABLE public.deletions (
    project_id text NOT NULL,
    requested_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    purged_at timestamp with time zone
);

-- Name: TABLE deletions; Type: COMMENT; Schema: public; Owner: -

COMMENT ON TABLE public.deletions IS 'Projects that are to go, and when their rows went.';

-- Name: depth_maps; Type: TABLE; Schema: public; Owner: -

CREATE TABLE public.depth_maps (
    id bigint NOT NULL,
    project_id text NOT NULL,
    job_id text NOT NULL,
    stage text NOT NULL,
    view_index integer NOT NULL,
    depth_path text NOT NULL,
    heat_map_path text NOT NULL,
    engine text NOT NULL,
    min_depth double precision NOT NULL,
    max_depth double precision NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT depth_maps_depth_path_is_set CHECK ((depth_path <> ''::text)),
    CONSTRAINT depth_maps_range_is_ordered CHECK ((min_depth <= max_depth)),
    CONSTRAINT depth_maps_view_index_is_not_negative CHECK ((view_index >= 0))
);

-- Name: TABLE depth_maps; Type: COMMENT; Schema: public; Owner: -

COMMENT ON TABLE public.depth_maps IS 'Depth of the synthesised views, one row per view.';

-- Name: depth_maps_id_seq; Type: SEQUENCE; Schema: public; Owner: -

ALTER TABLE public.depth_maps ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.depth_maps_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

-- Name: enhanced_views; Type: TABLE; Schema: public; Owner: -

CREATE TABLE public.enhanced_views (
    id bigint NOT NULL,
    project_id text NOT NULL,
    job_id text NOT NULL,
    stage text NOT NULL,
    iteration_number integer NOT NULL,
    view_index integer NOT NULL,
    image_path text NOT NULL,
    engine text NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    before_path text,
    after_path text,
    weight double precision,
    CONSTRAINT enhanced_views_after_path_is_set CHECK ((after_path <> ''::text)),
    CONSTRAINT enhanced_views_before_path_is_set CHECK ((before_path <> ''::text)),
    CONSTRAINT enhanced_views_image_path_is_set CHECK ((image_path <> ''::text)),
    CONSTRAINT enhanced_views_number_is_not_negative CHECK ((iteration_number >= 0)),
    CONSTRAINT enhanced_views_view_index_is_not_negative CHECK ((view_index >= 0)),
    CONSTRAINT enhanced_views_weight_is_a_share CHECK (((weight >= (0)::double precision) AND (weight <= (1)::double precision)))
);

-- Name: TABLE enhanced_views; Type: COMMENT; Schema: public; Owner: -

COMMENT ON TABLE public.enhanced_views IS 'Enhanced target views of refinement iterations.';

-- Name: enhanced_views_id_seq; Type: SEQUENCE; Schema: public; Owner: -

ALTER TABLE public.enhanced_views ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.enhanced_views_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

-- Name: enhancement_iterations; Type: TABLE; Schema: public; Owner: -

CREATE TABLE public.enhancement_iterations (
    id bigint NOT NULL,
    project_id text NOT NULL,
    job_id text NOT NULL,
    stage text NOT NULL,
    iteration_number integer NOT NULL,
    accepted boolean NOT NULL,
    model_version integer,
    enhance_engine text NOT NULL,
    strength double precision NOT NULL,
    learning_rate double precision NOT NULL,
    seconds double precision NOT NULL,
    note text DEFAULT ''::text NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    detail jsonb DEFAULT '{}'::jsonb NOT NULL,
    CONSTRAINT enhancement_iterations_detail_is_an_object CHECK ((jsonb_typeof(detail) = 'object'::text)),
    CONSTRAINT enhancement_iterations_number_is_not_negative CHECK ((iteration_number >= 0)),
    CONSTRAINT enhancement_iterations_seconds_is_not_negative CHECK (((seconds >= (0)::double precision) AND (seconds < 'Infinity'::double precision)))
);

-- Name: TABLE enhancement_iterations; Type: COMMENT; Schema: public; Owner: -

COMMENT ON TABLE public.enhancement_iterations IS 'Refinement iterations: what ran.';

-- Name: enhancement_iterations_id_seq; Type: SEQUENCE; Schema: public; Owner: -

ALTER TABLE public.enhancement_iterations ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.enhancement_iterations_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

-- Name: export_history; Type: TABLE; Schema: public; Owner: -

CREATE TABLE public.export_history (
    id bigint NOT NULL,
    project_id text NOT NULL,
    job_id text NOT NULL,
    stage text NOT NULL,
    model_version integer NOT NULL,
    format text NOT NULL,
    optimize boolean NOT NULL,
    file_path text NOT NULL,
    file_size_bytes bigint NOT NULL,
    seconds double precision NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    options jsonb DEFAULT '{}'::jsonb NOT NULL,
    contents jsonb DEFAULT '{}'::jsonb NOT NULL,
    saved jsonb DEFAULT '{}'::jsonb NOT NULL,
    notes jsonb DEFAULT '[]'::jsonb NOT NULL,
    CONSTRAINT export_history_file_path_is_set CHECK ((file_path <> ''::text)),
    CONSTRAINT export_history_file_size_is_not_negative CHECK ((file_size_bytes >= 0)),
    CONSTRAINT export_history_format_is_a_name CHECK ((format ~ '^[a-z0-9]+(-[a-z0-9]+)*$'::text)),
    CONSTRAINT export_history_seconds_is_not_negative CHECK (((seconds >= (0)::double precision) AND (seconds < 'Infinity'::double precision)))
);

-- Name: TABLE export_history; Type: COMMENT; Schema: public; Owner: -

COMMENT ON TABLE public.export_history IS 'Exported files.';

-- Name: export_history_id_seq; Type: SEQUENCE; Schema: public; Owner: -

ALTER TABLE public.export_history ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.export_history_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

-- Name: file_store; Type: TABLE; Schema: public; Owner: -

CREATE TABLE public.file_store (
    is_only boolean DEFAULT true NOT NULL,
    id text NOT NULL,
    CONSTRAINT file_store_id_is_set CHECK ((id <> ''::text)),
    CONSTRAINT file_store_is_one_row CHECK (is_only)
);

-- Name: TABLE file_store; Type: COMMENT; Schema: public; Owner: -

COMMENT ON TABLE public.file_store IS 'The folder whose files the rows name, where files are in a folder.';

-- Name: gaussian_splat_models; Type: TABLE; Schema: public; Owner: -

CREATE TABLE public.gaussian_splat_models (
    id bigint NOT NULL,
    project_id text NOT NULL,
    job_id text NOT NULL,
    stage text NOT NULL,
    version integer NOT NULL,
    model_path text NOT NULL,
    engine text NOT NULL,
    origin text NOT NULL,
    splat_count bigint NOT NULL,
    file_size_bytes bigint NOT NULL,
    psnr double precision,
    ssim double precision,
    lpips double precision,
    view_agreement double precision,
    expected_likeness double precision,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    scores jsonb DEFAULT '{}'::jsonb NOT NULL,
    parent integer,
    CONSTRAINT gaussian_splat_models_agreement_is_a_number CHECK ((view_agreement < 'NaN'::double precision)),
    CONSTRAINT gaussian_splat_models_file_size_is_not_negative CHECK ((file_size_bytes >= 0)),
    CONSTRAINT gaussian_splat_models_likeness_is_in_range CHECK (((expected_likeness >= (0)::double precision) AND (expected_likeness <= (1)::double precision))),
    CONSTRAINT gaussian_splat_models_lpips_is_in_range CHECK (((lpips >= (0)::double precision) AND (lpips < 'NaN'::double precision))),
    CONSTRAINT gaussian_splat_models_model_path_is_set CHECK ((model_path <> ''::text)),
    CONSTRAINT gaussian_splat_models_parent_is_older CHECK ((parent < version)),
    CONSTRAINT gaussian_splat_models_psnr_is_a_number CHECK ((psnr < 'NaN'::double precision)),
    CONSTRAINT gaussian_splat_models_scores_is_an_object CHECK ((jsonb_typeof(scores) = 'object'::text)),
    CONSTRAINT gaussian_splat_models_splat_count_is_not_negative CHECK ((splat_count >= 0)),
    CONSTRAINT gaussian_splat_models_ssim_is_in_range CHECK (((ssim >= ('-1'::integer)::double precision) AND (ssim <= (1)::double precision))),
    CONSTRAINT gaussian_splat_models_version_is_not_negative CHECK ((version >= 0))
);

-- Name: TABLE gaussian_splat_models; Type: COMMENT; Schema: public; Owner: -

COMMENT ON TABLE public.gaussian_splat_models IS 'Versions of the splat model of a project.';

-- Name: gaussian_splat_models_id_seq; Type: SEQUENCE; Schema: public; Owner: -

ALTER TABLE public.gaussian_splat_models ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.gaussian_splat_models_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

-- Name: glimpse3d_migrations; Type: TABLE; Schema: public; Owner: -

CREATE TABLE public.glimpse3d_migrations (
    version text NOT NULL,
    name text NOT NULL,
    sha256 text NOT NULL,
    applied_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

-- Name: TABLE glimpse3d_migrations; Type: COMMENT; Schema: public; Owner: -

COMMENT ON TABLE public.glimpse3d_migrations IS 'Migration files this database has had.';

-- Name: job_events; Type: TABLE; Schema: public; Owner: -

CREATE TABLE public.job_events (
    job_id text NOT NULL,
    seq bigint NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    kind text NOT NULL,
    data jsonb DEFAULT '{}'::jsonb NOT NULL,
    CONSTRAINT job_events_kind_is_known CHECK ((kind = ANY (ARRAY['state'::text, 'stage'::text, 'progress'::text, 'commit'::text, 'cancel'::text, 'preview'::text]))),
    CONSTRAINT job_events_seq_starts_at_1 CHECK ((seq >= 1))
);

-- Name: TABLE job_events; Type: COMMENT; Schema: public; Owner: -

COMMENT ON TABLE public.job_events IS 'What happened to a job: state changes, stage changes and commits, numbered without gaps.';

-- Name: job_stages; Type: TABLE; Schema: public; Owner: -

CREATE TABLE public.job_stages (
    job_id text NOT NULL,
    stage text NOT NULL,
    ordinal integer NOT NULL,
    seconds double precision NOT NULL,
    fence bigint NOT NULL,
    detail jsonb DEFAULT '{}'::jsonb NOT NULL,
    committed_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT job_stages_ordinal_starts_at_1 CHECK ((ordinal >= 1)),
    CONSTRAINT job_stages_seconds_is_not_negative CHECK (((seconds >= (0)::double precision) AND (seconds < 'Infinity'::double precision))),
    CONSTRAINT job_stages_stage_has_1_to_100_characters CHECK (((length(stage) >= 1) AND (length(stage) <= 100)))
);

-- Name: TABLE job_stages; Type: COMMENT; Schema: public; Owner: -

COMMENT ON TABLE public.job_stages IS 'Stages a job has committed; what a new attempt resumes from.';

-- Name: jobs_queue_number_seq; Type: SEQUENCE; Schema: public; Owner: -

ALTER TABLE public.jobs ALTER COLUMN queue_number ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.jobs_queue_number_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

-- Name: model_previews; Type: TABLE; Schema: public; Owner: -

CREATE TABLE public.model_previews (
    id bigint NOT NULL,
    project_id text NOT NULL,
    job_id text NOT NULL,
    stage text NOT NULL,
    version integer NOT NULL,
    thumbnail_path text NOT NULL,
    turntable_path text NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT model_previews_thumbnail_path_is_set CHECK ((thumbnail_path <> ''::text)),
    CONSTRAINT model_previews_turntable_path_is_set CHECK ((turntable_path <> ''::text))
);

-- Name: TABLE model_previews; Type: COMMENT; Schema: public; Owner: -

COMMENT ON TABLE public.model_previews IS 'Thumbnail and turntable of model versions, one row per version.';

-- Name: model_previews_id_seq; Type: SEQUENCE; Schema: public; Owner: -

ALTER TABLE public.model_previews ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.model_previews_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

-- Name: multiview_generation; Type: TABLE; Schema: public; Owner: -

CREATE TABLE public.multiview_generation (
    id bigint NOT NULL,
    project_id text NOT NULL,
    job_id text NOT NULL,
    stage text NOT NULL,
    view_index integer NOT NULL,
    image_path text NOT NULL,
    azimuth_deg double precision NOT NULL,
    elevation_deg double precision NOT NULL,
    engine text NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    edit text DEFAULT ''::text NOT NULL,
    CONSTRAINT multiview_generation_edit_is_known CHECK ((edit = ANY (ARRAY[''::text, 'replaced'::text, 'struck'::text]))),
    CONSTRAINT multiview_generation_elevation_is_an_angle CHECK (((elevation_deg >= ('-90'::integer)::double precision) AND (elevation_deg <= (90)::double precision))),
    CONSTRAINT multiview_generation_image_path_is_set CHECK ((image_path <> ''::text)),
    CONSTRAINT multiview_generation_view_index_is_not_negative CHECK ((view_index >= 0))
);

-- Name: TABLE multiview_generation; Type: COMMENT; Schema: public; Owner: -

COMMENT ON TABLE public.multiview_generation IS 'Synthesised views, one row per view.';

-- Name: multiview_generation_id_seq; Type: SEQUENCE; Schema: public; Owner: -

ALTER TABLE public.multiview_generation ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.multiview_generation_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

-- Name: project_summary; Type: VIEW; Schema: public; Owner: -

CREATE VIEW public.project_summary WITH (security_invoker='true') AS
 SELECT p.id,
    p.status,
    p.current_step,
    p.progress_percentage,
    p.error,
    ( SELECT count(DISTINCT v.view_index) AS count
           FROM public.multiview_generation v
          WHERE (v.project_id = p.id)) AS views,
    ( SELECT count(DISTINCT d.view_index) AS count
           FROM public.depth_maps d
          WHERE (d.project_id = p.id)) AS depth_maps,
    ( SELECT count(*) AS count
           FROM public.gaussian_splat_models m
          WHERE (m.project_id = p.id)) AS model_versions,
    newest.version AS newest_version,
    newest.model_path AS newest_model_path,
    newest.splat_count,
    newest.view_agreement,
    newest.expected_likeness,
    ( SELECT count(*) AS count
           FROM public.enhancement_iterations i
          WHERE ((i.project_id = p.id) AND (i.iteration_number > 0))) AS refinement_iterations,
    ( SELECT count(*) AS count
           FROM public.export_history e
          WHERE (e.project_id = p.id)) AS exports,
    ( SELECT j.id
           FROM public.jobs j
          WHERE ((j.project_id = p.id) AND (j.state = ANY (ARRAY['queued'::text, 'running'::text])))) AS active_job_id,
    p.created_at,
    p.updated_at
   FROM (public.projects p
     LEFT JOIN LATERAL ( SELECT m.version,
            m.model_path,
            m.splat_count,
            m.view_agreement,
            m.expected_likeness
           FROM public.gaussian_splat_models m
          WHERE (m.project_id = p.id)
          ORDER BY m.version DESC
         LIMIT 1) newest ON (true));

-- Name: VIEW project_summary; Type: COMMENT; Schema: public; Owner: -

COMMENT ON VIEW public.project_summary IS 'Projects with counts and their newest model.';

-- Name: refinement_metrics; Type: TABLE; Schema: public; Owner: -

CREATE TABLE public.refinement_metrics (
    id bigint NOT NULL,
    project_id text NOT NULL,
    job_id text NOT NULL,
    stage text NOT NULL,
    iteration_number integer NOT NULL,
    view_agreement double precision NOT NULL,
    expected_likeness double precision,
    psnr double precision NOT NULL,
    ssim double precision NOT NULL,
    lpips double precision,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    scores jsonb DEFAULT '{}'::jsonb NOT NULL,
    CONSTRAINT refinement_metrics_agreement_is_a_number CHECK ((view_agreement < 'NaN'::double precision)),
    CONSTRAINT refinement_metrics_likeness_is_in_range CHECK (((expected_likeness >= (0)::double precision) AND (expected_likeness <= (1)::double precision))),
    CONSTRAINT refinement_metrics_lpips_is_in_range CHECK (((lpips >= (0)::double precision) AND (lpips < 'NaN'::double precision))),
    CONSTRAINT refinement_metrics_psnr_is_a_number CHECK ((psnr < 'NaN'::double precision)),
    CONSTRAINT refinement_metrics_scores_is_an_object CHECK ((jsonb_typeof(scores) = 'object'::text)),
    CONSTRAINT refinement_metrics_ssim_is_in_range CHECK (((ssim >= ('-1'::integer)::double precision) AND (ssim <= (1)::double precision)))
);

-- Name: TABLE refinement_metrics; Type: COMMENT; Schema: public; Owner: -

COMMENT ON TABLE public.refinement_metrics IS 'Refinement iterations: what came out.';

-- Name: refinement_metrics_id_seq; Type: SEQUENCE; Schema: public; Owner: -

ALTER TABLE public.refinement_metrics ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.refinement_metrics_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

-- Name: refinement_progress; Type: VIEW; Schema: public; Owner: -

CREATE VIEW public.refinement_progress WITH (security_invoker='true') AS
 SELECT i.project_id,
    i.job_id,
    i.iteration_number,
    i.accepted,
    i.model_version,
    i.enhance_engine,
    i.strength,
    i.learning_rate,
    i.seconds,
    m.view_agreement,
    (m.view_agreement - lag(m.view_agreement) OVER (PARTITION BY i.job_id ORDER BY i.iteration_number)) AS agreement_gain,
    m.expected_likeness,
    m.psnr,
    m.ssim,
    m.lpips,
    i.note,
    i.created_at
   FROM (public.enhancement_iterations i
     JOIN public.refinement_metrics m USING (job_id, iteration_number));

-- Name: VIEW refinement_progress; Type: COMMENT; Schema: public; Owner: -

COMMENT ON VIEW public.refinement_progress IS 'Refinement iterations with their scores and the gain over the iteration before.';

-- Name: view_edits_id_seq; Type: SEQUENCE; Schema: public; Owner: -

ALTER TABLE public.view_edits ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.view_edits_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

-- Name: webhooks; Type: TABLE; Schema: public; Owner: -

CREATE TABLE public.webhooks (
    job_id text NOT NULL,
    url text NOT NULL,
    attempts integer DEFAULT 0 NOT NULL,
    state text DEFAULT 'pending'::text NOT NULL,
    next_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    last_error text,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT webhooks_attempts_is_not_negative CHECK ((attempts >= 0)),
    CONSTRAINT webhooks_state_is_known CHECK ((state = ANY (ARRAY['pending'::text, 'delivered'::text, 'given_up'::text])))
);

-- Name: TABLE webhooks; Type: COMMENT; Schema: public; Owner: -

COMMENT ON TABLE public.webhooks IS 'Messages about ended jobs: who is told, and how it went.';

-- Name: contact_sheets contact_sheets_pkey; Type: CONSTRAINT; Schema: public; Owner: -

ALTER TABLE ONLY public.contact_sheets
    ADD CONSTRAINT contact_sheets_pkey PRIMARY KEY (id);

-- Name: deletions deletions_pkey; Type: CONSTRAINT; Schema: public; Owner: -

ALTER TABLE ONLY public.deletions
    ADD CONSTRAINT deletions_pkey PRIMARY KEY (project_id);

-- Name: depth_maps depth_maps_one_row_per_view; Type: CONSTRAINT; Schema: public; Owner: -

ALTER TABLE ONLY public.depth_maps
    ADD CONSTRAINT depth_maps_one_row_per_view UNIQUE (job_id, view_index);

-- Name: depth_maps depth_maps_pkey; Type: CONSTRAINT; Schema: public; Owner: -

ALTER TABLE ONLY public.depth_maps
    ADD CONSTRAINT depth_maps_pkey PRIMARY KEY (id);

-- Name: enhanced_views enhanced_views_one_row_per_view; Type: CONSTRAINT; Schema: public; Owner: -

ALTER TABLE ONLY public.enhanced_views
    ADD CONSTRAINT enhanced_views_one_row_per_view UNIQUE (job_id, iteration_number, view_index);

-- Name: enhanced_views enhanced_views_pkey; Type: CONSTRAINT; Schema: public; Owner: -

ALTER TABLE ONLY public.enhanced_views
    ADD CONSTRAINT enhanced_views_pkey PRIMARY KEY (id);

-- Name: enhancement_iterations enhancement_iterations_one_row_per_number; Type: CONSTRAINT; Schema: public; Owner: -

ALTER TABLE ONLY public.enhancement_iterations
    ADD CONSTRAINT enhancement_iterations_one_row_per_number UNIQUE (job_id, iteration_number);

-- Name: enhancement_iterations enhancement_iterations_pkey; Type: CONSTRAINT; Schema: public; Owner: -

ALTER TABLE ONLY public.enhancement_iterations
    ADD CONSTRAINT enhancement_iterations_pkey PRIMARY KEY (id);

-- Name: export_history export_history_pkey; Type: CONSTRAINT; Schema: public; Owner: -

ALTER TABLE ONLY public.export_history
    ADD CONSTRAINT export_history_pkey PRIMARY KEY (id);

-- Name: file_store file_store_pkey; Type: CONSTRAINT; Schema: public; Owner: -

ALTER TABLE ONLY public.file_store
    ADD CONSTRAINT file_store_pkey PRIMARY KEY (is_only);

-- Name: gaussian_splat_models gaussian_splat_models_one_row_per_version; Type: CONSTRAINT; Schema: public; Owner: -

ALTER TABLE ONLY public.gaussian_splat_models
    ADD CONSTRAINT gaussian_splat_models_one_row_per_version UNIQUE (project_id, version);

-- Name: gaussian_splat_models gaussian_splat_models_pkey; Type: CONSTRAINT; Schema: public; Owner: -

ALTER TABLE ONLY public.gaussian_splat_models
    ADD CONSTRAINT gaussian_splat_models_pkey PRIMARY KEY (id);

-- Name: glimpse3d_migrations glimpse3d_migrations_pkey; Type: CONSTRAINT; Schema: public; Owner: -

ALTER TABLE ONLY public.glimpse3d_migrations
    ADD CONSTRAINT glimpse3d_migrations_pkey PRIMARY KEY (version);

-- Name: job_events job_events_pkey; Type: CONSTRAINT; Schema: public; Owner: -

ALTER TABLE ONLY public.job_events
    ADD CONSTRAINT job_events_pkey PRIMARY KEY (job_id, seq);

-- Name: job_stages job_stages_ordinal_is_unique; Type: CONSTRAINT; Schema: public; Owner: -

ALTER TABLE ONLY public.job_stages
    ADD CONSTRAINT job_stages_ordinal_is_unique UNIQUE (job_id, ordinal);

-- Name: job_stages job_stages_pkey; Type: CONSTRAINT; Schema: public; Owner: -

ALTER TABLE ONLY public.job_stages
    ADD CONSTRAINT job_stages_pkey PRIMARY KEY (job_id, stage);

-- Name: jobs jobs_pkey; Type: CONSTRAINT; Schema: public; Owner: -

ALTER TABLE ONLY public.jobs
    ADD CONSTRAINT jobs_pkey PRIMARY KEY (id);

-- Name: jobs jobs_queue_number_is_unique; Type: CONSTRAINT; Schema: public; Owner: -

ALTER TABLE ONLY public.jobs
    ADD CONSTRAINT jobs_queue_number_is_unique UNIQUE (queue_number);

-- Name: model_previews model_previews_one_row_per_version; Type: CONSTRAINT; Schema: public; Owner: -

ALTER TABLE ONLY public.model_previews
    ADD CONSTRAINT model_previews_one_row_per_version UNIQUE (project_id, version);

-- Name: model_previews model_previews_pkey; Type: CONSTRAINT; Schema: public; Owner: -

ALTER TABLE ONLY public.model_previews
    ADD CONSTRAINT model_previews_pkey PRIMARY KEY (id);

-- Name: multiview_generation multiview_generation_one_row_per_view; Type: CONSTRAINT; Schema: public; Owner: -

ALTER TABLE ONLY public.multiview_generation
    ADD CONSTRAINT multiview_generation_one_row_per_view UNIQUE (job_id, view_index);

-- Name: multiview_generation multiview_generation_pkey; Type: CONSTRAINT; Schema: public; Owner: -

ALTER TABLE ONLY public.multiview_generation
    ADD CONSTRAINT multiview_generation_pkey PRIMARY KEY (id);

-- Name: project_photos project_photos_one_per_position; Type: CONSTRAINT; Schema: public; Owner: -

ALTER TABLE ONLY public.project_photos
    ADD CONSTRAINT project_photos_one_per_position UNIQUE (project_id, "position") DEFERRABLE INITIALLY DEFERRED;

-- Name: project_photos project_photos_pkey; Type: CONSTRAINT; Schema: public; Owner: -

ALTER TABLE ONLY public.project_photos
    ADD CONSTRAINT project_photos_pkey PRIMARY KEY (id);

-- Name: projects projects_pkey; Type: CONSTRAINT; Schema: public; Owner: -

ALTER TABLE ONLY public.projects
    ADD CONSTRAINT projects_pkey PRIMARY KEY (id);

-- Name: refinement_metrics refinement_metrics_one_row_per_number; Type: CONSTRAINT; Schema: public; Owner: -

ALTER TABLE ONLY public.refinement_metrics
    ADD CONSTRAINT refinement_metrics_one_row_per_number UNIQUE (job_id, iteration_number);

-- Name: refinement_metrics refinement_metrics_pkey; Type: CONSTRAINT; Schema: public; Owner: -

ALTER TABLE ONLY public.refinement_metrics
    ADD CONSTRAINT refinement_metrics_pkey PRIMARY KEY (id);

-- Name: view_edits view_edits_pkey; Type: CONSTRAINT; Schema: public; Owner: -

ALTER TABLE ONLY public.view_edits
    ADD CONSTRAINT view_edits_pkey PRIMARY KEY (id);

-- Name: webhooks webhooks_pkey; Type: CONSTRAINT; Schema: public; Owner: -

ALTER TABLE ONLY public.webhooks
    ADD CONSTRAINT webhooks_pkey PRIMARY KEY (job_id);

-- Name: contact_sheets_of_project; Type: INDEX; Schema: public; Owner: -

CREATE INDEX contact_sheets_of_project ON public.contact_sheets USING btree (project_id, id);

-- Name: contact_sheets_of_stage; Type: INDEX; Schema: public; Owner: -

CREATE INDEX contact_sheets_of_stage ON public.contact_sheets USING btree (job_id, stage);

-- Name: deletions_oldest_first; Type: INDEX; Schema: public; Owner: -

CREATE INDEX deletions_oldest_first ON public.deletions USING btree (requested_at);

-- Name: depth_maps_of_project; Type: INDEX; Schema: public; Owner: -

CREATE INDEX depth_maps_of_project ON public.depth_maps USING btree (project_id);

-- Name: enhanced_views_of_project; Type: INDEX; Schema: public; Owner: -

CREATE INDEX enhanced_views_of_project ON public.enhanced_views USING btree (project_id);

-- Name: enhancement_iterations_of_project; Type: INDEX; Schema: public; Owner: -

CREATE INDEX enhancement_iterations_of_project ON public.enhancement_iterations USING btree (project_id, model_version);

-- Name: export_history_of_project; Type: INDEX; Schema: public; Owner: -

CREATE INDEX export_history_of_project ON public.export_history USING btree (project_id, model_version);

-- Name: export_history_of_stage; Type: INDEX; Schema: public; Owner: -

CREATE INDEX export_history_of_stage ON public.export_history USING btree (job_id, stage);

-- Name: gaussian_splat_models_of_stage; Type: INDEX; Schema: public; Owner: -

CREATE INDEX gaussian_splat_models_of_stage ON public.gaussian_splat_models USING btree (job_id, stage);

-- Name: jobs_alike; Type: INDEX; Schema: public; Owner: -

CREATE INDEX jobs_alike ON public.jobs USING btree (kind, shape, finished_at DESC) WHERE (state = 'succeeded'::text);

-- Name: jobs_not_swept; Type: INDEX; Schema: public; Owner: -

CREATE INDEX jobs_not_swept ON public.jobs USING btree (finished_at) WHERE ((swept_at IS NULL) AND ((state = ANY (ARRAY['failed'::text, 'cancelled'::text])) OR ((state = 'succeeded'::text) AND ((fence > 1) OR shown))));

-- Name: jobs_of_client; Type: INDEX; Schema: public; Owner: -

CREATE INDEX jobs_of_client ON public.jobs USING btree (client, started_at);

-- Name: jobs_of_project; Type: INDEX; Schema: public; Owner: -

CREATE INDEX jobs_of_project ON public.jobs USING btree (project_id, queue_number DESC);

-- Name: jobs_one_active_per_project; Type: INDEX; Schema: public; Owner: -

CREATE UNIQUE INDEX jobs_one_active_per_project ON public.jobs USING btree (project_id) WHERE (state = ANY (ARRAY['queued'::text, 'running'::text]));

-- Name: jobs_one_key_per_client; Type: INDEX; Schema: public; Owner: -

CREATE UNIQUE INDEX jobs_one_key_per_client ON public.jobs USING btree (client, idempotency_key) WHERE (idempotency_key IS NOT NULL);

-- Name: jobs_queue; Type: INDEX; Schema: public; Owner: -

CREATE INDEX jobs_queue ON public.jobs USING btree (queue_number) WHERE (state = ANY (ARRAY['queued'::text, 'running'::text]));

-- Name: jobs_to_forget; Type: INDEX; Schema: public; Owner: -

CREATE INDEX jobs_to_forget ON public.jobs USING btree (finished_at) WHERE (forgotten_at IS NULL);

-- Name: model_previews_of_stage; Type: INDEX; Schema: public; Owner: -

CREATE INDEX model_previews_of_stage ON public.model_previews USING btree (job_id, stage);

-- Name: multiview_generation_of_project; Type: INDEX; Schema: public; Owner: -

CREATE INDEX multiview_generation_of_project ON public.multiview_generation USING btree (project_id);

-- Name: project_photos_one_key_per_client; Type: INDEX; Schema: public; Owner: -

CREATE UNIQUE INDEX project_photos_one_key_per_client ON public.project_photos USING btree (client, idempotency_key) WHERE (idempotency_key IS NOT NULL);

-- Name: project_photos_to_remove; Type: INDEX; Schema: public; Owner: -

CREATE INDEX project_photos_to_remove ON public.project_photos USING btree (created_at) WHERE (state = ANY (ARRAY['arriving'::text, 'removed'::text]));

-- Name: project_photos_with_a_key; Type: INDEX; Schema: public; Owner: -

CREATE INDEX project_photos_with_a_key ON public.project_photos USING btree (created_at) WHERE (idempotency_key IS NOT NULL);

-- Name: projects_by_status_and_time; Type: INDEX; Schema: public; Owner: -

CREATE INDEX projects_by_status_and_time ON public.projects USING btree (status, created_at, id);

-- Name: projects_by_time; Type: INDEX; Schema: public; Owner: -

CREATE INDEX projects_by_time ON public.projects USING btree (created_at, id);

-- Name: projects_newest_first; Type: INDEX; Schema: public; Owner: -

CREATE INDEX projects_newest_first ON public.projects USING btree (created_at DESC, id);

-- Name: projects_one_key_per_client; Type: INDEX; Schema: public; Owner: -

CREATE UNIQUE INDEX projects_one_key_per_client ON public.projects USING btree (client, idempotency_key) WHERE (idempotency_key IS NOT NULL);

-- Name: projects_with_a_key; Type: INDEX; Schema: public; Owner: -

CREATE INDEX projects_with_a_key ON public.projects USING btree (created_at) WHERE (idempotency_key IS NOT NULL);

-- Name: refinement_metrics_of_project; Type: INDEX; Schema: public; Owner: -

CREATE INDEX refinement_metrics_of_project ON public.refinement_metrics USING btree (project_id);

-- Name: view_edits_of_job; Type: INDEX; Schema: public; Owner: -

CREATE INDEX view_edits_of_job ON public.view_edits USING btree (applied_by);

-- Name: view_edits_one_waits_per_view; Type: INDEX; Schema: public; Owner: -

CREATE UNIQUE INDEX view_edits_one_waits_per_view ON public.view_edits USING btree (project_id, version, view_index) WHERE (applied_by IS NULL);

-- Name: webhooks_due; Type: INDEX; Schema: public; Owner: -

CREATE INDEX webhooks_due ON public.webhooks USING btree (next_at) WHERE (state = 'pending'::text);

-- Name: webhooks_to_forget; Type: INDEX; Schema: public; Owner: -

CREATE INDEX webhooks_to_forget ON public.webhooks USING btree (created_at) WHERE (state <> 'pending'::text);

-- Name: jobs jobs_touch_updated_at; Type: TRIGGER; Schema: public; Owner: -

CREATE TRIGGER jobs_touch_updated_at BEFORE UPDATE ON public.jobs FOR EACH ROW EXECUTE FUNCTION public.touch_updated_at();

-- Name: projects projects_touch_updated_at; Type: TRIGGER; Schema: public; Owner: -

CREATE TRIGGER projects_touch_updated_at BEFORE UPDATE ON public.projects FOR EACH ROW WHEN (((new.idempotency_key IS NOT NULL) OR (old.idempotency_key IS NULL))) EXECUTE FUNCTION public.touch_updated_at();

-- Name: contact_sheets contact_sheets_job_id_stage_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -

ALTER TABLE ONLY public.contact_sheets
    ADD CONSTRAINT contact_sheets_job_id_stage_fkey FOREIGN KEY (job_id, stage) REFERENCES public.job_stages(job_id, stage) ON DELETE CASCADE;

-- Name: contact_sheets contact_sheets_model_exists; Type: FK CONSTRAINT; Schema: public; Owner: -

ALTER TABLE ONLY public.contact_sheets
    ADD CONSTRAINT contact_sheets_model_exists FOREIGN KEY (project_id, model_version) REFERENCES public.gaussian_splat_models(project_id, version) DEFERRABLE INITIALLY DEFERRED;

-- Name: contact_sheets contact_sheets_project_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -

ALTER TABLE ONLY public.contact_sheets
    ADD CONSTRAINT contact_sheets_project_id_fkey FOREIGN KEY (project_id) REFERENCES public.projects(id) ON DELETE CASCADE;

-- Name: depth_maps depth_maps_job_id_stage_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -

ALTER TABLE ONLY public.depth_maps
    ADD CONSTRAINT depth_maps_job_id_stage_fkey FOREIGN KEY (job_id, stage) REFERENCES public.job_stages(job_id, stage) ON DELETE CASCADE;

-- Name: depth_maps depth_maps_project_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -

ALTER TABLE ONLY public.depth_maps
    ADD CONSTRAINT depth_maps_project_id_fkey FOREIGN KEY (project_id) REFERENCES public.projects(id) ON DELETE CASCADE;

-- Name: enhanced_views enhanced_views_job_id_stage_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -

ALTER TABLE ONLY public.enhanced_views
    ADD CONSTRAINT enhanced_views_job_id_stage_fkey FOREIGN KEY (job_id, stage) REFERENCES public.job_stages(job_id, stage) ON DELETE CASCADE;

-- Name: enhanced_views enhanced_views_project_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -

ALTER TABLE ONLY public.enhanced_views
    ADD CONSTRAINT enhanced_views_project_id_fkey FOREIGN KEY (project_id) REFERENCES public.projects(id) ON DELETE CASCADE;

-- Name: enhancement_iterations enhancement_iterations_job_id_stage_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -

ALTER TABLE ONLY public.enhancement_iterations
    ADD CONSTRAINT enhancement_iterations_job_id_stage_fkey FOREIGN KEY (job_id, stage) REFERENCES public.job_stages(job_id, stage) ON DELETE CASCADE;

-- Name: enhancement_iterations enhancement_iterations_model_exists; Type: FK CONSTRAINT; Schema: public; Owner: -

ALTER TABLE ONLY public.enhancement_iterations
    ADD CONSTRAINT enhancement_iterations_model_exists FOREIGN KEY (project_id, model_version) REFERENCES public.gaussian_splat_models(project_id, version) DEFERRABLE INITIALLY DEFERRED;

-- Name: enhancement_iterations enhancement_iterations_project_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -

ALTER TABLE ONLY public.enhancement_iterations
    ADD CONSTRAINT enhancement_iterations_project_id_fkey FOREIGN KEY (project_id) REFERENCES public.projects(id) ON DELETE CASCADE;

-- Name: export_history export_history_job_id_stage_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -

ALTER TABLE ONLY public.export_history
    ADD CONSTRAINT export_history_job_id_stage_fkey FOREIGN KEY (job_id, stage) REFERENCES public.job_stages(job_id, stage) ON DELETE CASCADE;

-- Name: export_history export_history_model_exists; Type: FK CONSTRAINT; Schema: public; Owner: -

ALTER TABLE ONLY public.export_history
    ADD CONSTRAINT export_history_model_exists FOREIGN KEY (project_id, model_version) REFERENCES public.gaussian_splat_models(project_id, version) DEFERRABLE INITIALLY DEFERRED;

-- Name: export_history export_history_project_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -

ALTER TABLE ONLY public.export_history
    ADD CONSTRAINT export_history_project_id_fkey FOREIGN KEY (project_id) REFERENCES public.projects(id) ON DELETE CASCADE;

-- Name: gaussian_splat_models gaussian_splat_models_job_id_stage_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -

ALTER TABLE ONLY public.gaussian_splat_models
    ADD CONSTRAINT gaussian_splat_models_job_id_stage_fkey FOREIGN KEY (job_id, stage) REFERENCES public.job_stages(job_id, stage) ON DELETE CASCADE;

-- Name: gaussian_splat_models gaussian_splat_models_parent_exists; Type: FK CONSTRAINT; Schema: public; Owner: -

ALTER TABLE ONLY public.gaussian_splat_models
    ADD CONSTRAINT gaussian_splat_models_parent_exists FOREIGN KEY (project_id, parent) REFERENCES public.gaussian_splat_models(project_id, version) DEFERRABLE INITIALLY DEFERRED;

-- Name: gaussian_splat_models gaussian_splat_models_project_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -

ALTER TABLE ONLY public.gaussian_splat_models
    ADD CONSTRAINT gaussian_splat_models_project_id_fkey FOREIGN KEY (project_id) REFERENCES public.projects(id) ON DELETE CASCADE;

-- Name: job_events job_events_job_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -

ALTER TABLE ONLY public.job_events
    ADD CONSTRAINT job_events_job_id_fkey FOREIGN KEY (job_id) REFERENCES public.jobs(id) ON DELETE CASCADE;

-- Name: job_stages job_stages_job_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -

ALTER TABLE ONLY public.job_stages
    ADD CONSTRAINT job_stages_job_id_fkey FOREIGN KEY (job_id) REFERENCES public.jobs(id) ON DELETE CASCADE;

-- Name: jobs jobs_project_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -

ALTER TABLE ONLY public.jobs
    ADD CONSTRAINT jobs_project_id_fkey FOREIGN KEY (project_id) REFERENCES public.projects(id) ON DELETE CASCADE;

-- Name: model_previews model_previews_job_id_stage_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -

ALTER TABLE ONLY public.model_previews
    ADD CONSTRAINT model_previews_job_id_stage_fkey FOREIGN KEY (job_id, stage) REFERENCES public.job_stages(job_id, stage) ON DELETE CASCADE;

-- Name: model_previews model_previews_model_exists; Type: FK CONSTRAINT; Schema: public; Owner: -

ALTER TABLE ONLY public.model_previews
    ADD CONSTRAINT model_previews_model_exists FOREIGN KEY (project_id, version) REFERENCES public.gaussian_splat_models(project_id, version) DEFERRABLE INITIALLY DEFERRED;

-- Name: model_previews model_previews_project_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -

ALTER TABLE ONLY public.model_previews
    ADD CONSTRAINT model_previews_project_id_fkey FOREIGN KEY (project_id) REFERENCES public.projects(id) ON DELETE CASCADE;

-- Name: multiview_generation multiview_generation_job_id_stage_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -

ALTER TABLE ONLY public.multiview_generation
    ADD CONSTRAINT multiview_generation_job_id_stage_fkey FOREIGN KEY (job_id, stage) REFERENCES public.job_stages(job_id, stage) ON DELETE CASCADE;

-- Name: multiview_generation multiview_generation_project_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -

ALTER TABLE ONLY public.multiview_generation
    ADD CONSTRAINT multiview_generation_project_id_fkey FOREIGN KEY (project_id) REFERENCES public.projects(id) ON DELETE CASCADE;

-- Name: project_photos project_photos_project_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -

ALTER TABLE ONLY public.project_photos
    ADD CONSTRAINT project_photos_project_id_fkey FOREIGN KEY (project_id) REFERENCES public.projects(id) ON DELETE CASCADE;

-- Name: refinement_metrics refinement_metrics_job_id_iteration_number_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -

ALTER TABLE ONLY public.refinement_metrics
    ADD CONSTRAINT refinement_metrics_job_id_iteration_number_fkey FOREIGN KEY (job_id, iteration_number) REFERENCES public.enhancement_iterations(job_id, iteration_number) ON DELETE CASCADE;

-- Name: refinement_metrics refinement_metrics_job_id_stage_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -

ALTER TABLE ONLY public.refinement_metrics
    ADD CONSTRAINT refinement_metrics_job_id_stage_fkey FOREIGN KEY (job_id, stage) REFERENCES public.job_stages(job_id, stage) ON DELETE CASCADE;

-- Name: refinement_metrics refinement_metrics_project_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -

ALTER TABLE ONLY public.refinement_metrics
    ADD CONSTRAINT refinement_metrics_project_id_fkey FOREIGN KEY (project_id) REFERENCES public.projects(id) ON DELETE CASCADE;

-- Name: view_edits view_edits_applied_by_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -

ALTER TABLE ONLY public.view_edits
    ADD CONSTRAINT view_edits_applied_by_fkey FOREIGN KEY (applied_by) REFERENCES public.jobs(id) ON DELETE SET NULL;

-- Name: view_edits view_edits_project_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -

ALTER TABLE ONLY public.view_edits
    ADD CONSTRAINT view_edits_project_id_fkey FOREIGN KEY (project_id) REFERENCES public.projects(id) ON DELETE CASCADE;

-- Name: view_edits view_edits_version_exists; Type: FK CONSTRAINT; Schema: public; Owner: -

ALTER TABLE ONLY public.view_edits
    ADD CONSTRAINT view_edits_version_exists FOREIGN KEY (project_id, version) REFERENCES public.gaussian_splat_models(project_id, version) DEFERRABLE INITIALLY DEFERRED;

-- Name: webhooks webhooks_job_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -

ALTER TABLE ONLY public.webhooks
    ADD CONSTRAINT webhooks_job_id_fkey FOREIGN KEY (job_id) REFERENCES public.jobs(id) ON DELETE CASCADE;

-- Name: contact_sheets; Type: ROW SECURITY; Schema: public; Owner: -

ALTER TABLE public.contact_sheets ENABLE ROW LEVEL SECURITY;

-- Name: deletions; Type: ROW SECURITY; Schema: public; Owner: -

ALTER TABLE public.deletions ENABLE ROW LEVEL SECURITY;

-- Name: depth_maps; Type: ROW SECURITY; Schema: public; Owner: -

ALTER TABLE public.depth_maps ENABLE ROW LEVEL SECURITY;

-- Name: enhanced_views; Type: ROW SECURITY; Schema: public; Owner: -

ALTER TABLE public.enhanced_views ENABLE ROW LEVEL SECURITY;

-- Name: enhancement_iterations; Type: ROW SECURITY; Schema: public; Owner: -

ALTER TABLE public.enhancement_iterations ENABLE ROW LEVEL SECURITY;

-- Name: export_history; Type: ROW SECURITY; Schema: public; Owner: -

ALTER TABLE public.export_history ENABLE ROW LEVEL SECURITY;

-- Name: file_store; Type: ROW SECURITY; Schema: public; Owner: -

ALTER TABLE public.file_store ENABLE ROW LEVEL SECURITY;

-- Name: gaussian_splat_models; Type: ROW SECURITY; Schema: public; Owner: -

ALTER TABLE public.gaussian_splat_models ENABLE ROW LEVEL SECURITY;

-- Name: glimpse3d_migrations; Type: ROW SECURITY; Schema: public; Owner: -

ALTER TABLE public.glimpse3d_migrations ENABLE ROW LEVEL SECURITY;

-- Name: job_events; Type: ROW SECURITY; Schema: public; Owner: -

ALTER TABLE public.job_events ENABLE ROW LEVEL SECURITY;

-- Name: job_stages; Type: ROW SECURITY; Schema: public; Owner: -

ALTER TABLE public.job_stages ENABLE ROW LEVEL SECURITY;

-- Name: jobs; Type: ROW SECURITY; Schema: public; Owner: -

ALTER TABLE public.jobs ENABLE ROW LEVEL SECURITY;

-- Name: model_previews; Type: ROW SECURITY; Schema: public; Owner: -

ALTER TABLE public.model_previews ENABLE ROW LEVEL SECURITY;

-- Name: multiview_generation; Type: ROW SECURITY; Schema: public; Owner: -

ALTER TABLE public.multiview_generation ENABLE ROW LEVEL SECURITY;

-- Name: project_photos; Type: ROW SECURITY; Schema: public; Owner: -

ALTER TABLE public.project_photos ENABLE ROW LEVEL SECURITY;

-- Name: projects; Type: ROW SECURITY; Schema: public; Owner: -

ALTER TABLE public.projects ENABLE ROW LEVEL SECURITY;

-- Name: refinement_metrics; Type: ROW SECURITY; Schema: public; Owner: -

ALTER TABLE public.refinement_metrics ENABLE ROW LEVEL SECURITY;

-- Name: view_edits; Type: ROW SECURITY; Schema: public; Owner: -

ALTER TABLE public.view_edits ENABLE ROW LEVEL SECURITY;

-- Name: webhooks; Type: ROW SECURITY; Schema: public; Owner: -

ALTER TABLE public.webhooks ENABLE ROW LEVEL SECURITY;

-- Name: FUNCTION add_job_event_v1(p_job_id text, p_kind text, p_data jsonb); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.add_job_event_v1(p_job_id text, p_kind text, p_data jsonb) FROM PUBLIC;

-- Name: FUNCTION add_job_state_event_v1(p_job public.jobs); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.add_job_state_event_v1(p_job public.jobs) FROM PUBLIC;

-- Name: FUNCTION ago_v1(p_seconds double precision); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.ago_v1(p_seconds double precision) FROM PUBLIC;

-- Name: FUNCTION arrange_photos_v1(p_project_id text, p_revision bigint, p_photos jsonb, p_added text, p_idempotency_key text, p_fingerprint text, p_client text); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.arrange_photos_v1(p_project_id text, p_revision bigint, p_photos jsonb, p_added text, p_idempotency_key text, p_fingerprint text, p_client text) FROM PUBLIC;

-- Name: FUNCTION begin_photo_v1(p_project_id text, p_photo jsonb); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.begin_photo_v1(p_project_id text, p_photo jsonb) FROM PUBLIC;

-- Name: FUNCTION begin_upload_v1(p_project_id text, p_photos jsonb); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.begin_upload_v1(p_project_id text, p_photos jsonb) FROM PUBLIC;

-- Name: FUNCTION cancel_job_v1(p_job_id text); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.cancel_job_v1(p_job_id text) FROM PUBLIC;

-- Name: FUNCTION check_lease_v1(p_lease_s double precision); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.check_lease_v1(p_lease_s double precision) FROM PUBLIC;

-- Name: FUNCTION check_limit_v1(p_limit integer); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.check_limit_v1(p_limit integer) FROM PUBLIC;

-- Name: FUNCTION check_version_v1(p_project_id text, p_version integer); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.check_version_v1(p_project_id text, p_version integer) FROM PUBLIC;

-- Name: FUNCTION claim_job_v1(p_worker text, p_lease_s double precision, p_max_running integer); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.claim_job_v1(p_worker text, p_lease_s double precision, p_max_running integer) FROM PUBLIC;

-- Name: FUNCTION claim_webhook_v1(p_lease_s double precision); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.claim_webhook_v1(p_lease_s double precision) FROM PUBLIC;

-- Name: FUNCTION commit_stage_v1(p_job_id text, p_fence bigint, p_commit jsonb); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.commit_stage_v1(p_job_id text, p_fence bigint, p_commit jsonb) FROM PUBLIC;

-- Name: FUNCTION committed_v1(p_job_id text); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.committed_v1(p_job_id text) FROM PUBLIC;

-- Name: FUNCTION delete_project_v1(p_project_id text); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.delete_project_v1(p_project_id text) FROM PUBLIC;

-- Name: FUNCTION due_deletions_v1(p_grace_s double precision, p_limit integer); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.due_deletions_v1(p_grace_s double precision, p_limit integer) FROM PUBLIC;

-- Name: FUNCTION due_photos_v1(p_age_s double precision, p_limit integer); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.due_photos_v1(p_age_s double precision, p_limit integer) FROM PUBLIC;

-- Name: FUNCTION end_deletion_v1(p_project_id text, p_grace_s double precision); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.end_deletion_v1(p_project_id text, p_grace_s double precision) FROM PUBLIC;

-- Name: FUNCTION end_job_v1(p_job_id text, p_state text, p_result jsonb, p_error jsonb); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.end_job_v1(p_job_id text, p_state text, p_result jsonb, p_error jsonb) FROM PUBLIC;

-- Name: FUNCTION end_photo_v1(p_photo_id text); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.end_photo_v1(p_photo_id text) FROM PUBLIC;

-- Name: FUNCTION ended_jobs_v1(p_job_ids jsonb); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.ended_jobs_v1(p_job_ids jsonb) FROM PUBLIC;

-- Name: FUNCTION expected_seconds_v1(p_kind text, p_shape text); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.expected_seconds_v1(p_kind text, p_shape text) FROM PUBLIC;

-- Name: FUNCTION expire_projects_v1(p_ttl_s double precision, p_limit integer); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.expire_projects_v1(p_ttl_s double precision, p_limit integer) FROM PUBLIC;

-- Name: FUNCTION expire_uploads_v1(p_age_s double precision, p_limit integer); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.expire_uploads_v1(p_age_s double precision, p_limit integer) FROM PUBLIC;

-- Name: FUNCTION file_store_v1(); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.file_store_v1() FROM PUBLIC;

-- Name: FUNCTION find_photo_v1(p_idempotency_key text, p_fingerprint text, p_client text); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.find_photo_v1(p_idempotency_key text, p_fingerprint text, p_client text) FROM PUBLIC;

-- Name: FUNCTION find_upload_v1(p_idempotency_key text, p_fingerprint text, p_client text); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.find_upload_v1(p_idempotency_key text, p_fingerprint text, p_client text) FROM PUBLIC;

-- Name: FUNCTION finish_job_v1(p_job_id text, p_fence bigint, p_state text, p_result jsonb, p_error jsonb); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.finish_job_v1(p_job_id text, p_fence bigint, p_state text, p_result jsonb, p_error jsonb) FROM PUBLIC;

-- Name: FUNCTION finish_upload_v1(p_project_id text, p_idempotency_key text, p_fingerprint text, p_client text); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.finish_upload_v1(p_project_id text, p_idempotency_key text, p_fingerprint text, p_client text) FROM PUBLIC;

-- Name: FUNCTION finish_webhook_v1(p_job_id text, p_attempt integer, p_error text, p_retry_in_s double precision); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.finish_webhook_v1(p_job_id text, p_attempt integer, p_error text, p_retry_in_s double precision) FROM PUBLIC;

-- Name: FUNCTION forget_v1(p_age_s double precision, p_limit integer); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.forget_v1(p_age_s double precision, p_limit integer) FROM PUBLIC;

-- Name: FUNCTION generation_of_v1(p_project_id text, p_version integer); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.generation_of_v1(p_project_id text, p_version integer) FROM PUBLIC;

-- Name: FUNCTION get_job_v1(p_job_id text); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.get_job_v1(p_job_id text) FROM PUBLIC;

-- Name: FUNCTION get_project_v1(p_project_id text); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.get_project_v1(p_project_id text) FROM PUBLIC;

-- Name: FUNCTION guard_functions_v1(p_steps text[], p_parts text[]); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.guard_functions_v1(p_steps text[], p_parts text[]) FROM PUBLIC;

-- Name: FUNCTION guard_tables_v1(p_names text[]); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.guard_tables_v1(p_names text[]) FROM PUBLIC;

-- Name: FUNCTION heartbeat_v1(p_job_id text, p_fence bigint, p_lease_s double precision, p_stage text, p_progress double precision, p_step text); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.heartbeat_v1(p_job_id text, p_fence bigint, p_lease_s double precision, p_stage text, p_progress double precision, p_step text) FROM PUBLIC;

-- Name: FUNCTION inspect_v1(); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.inspect_v1() FROM PUBLIC;

-- Name: FUNCTION is_false_start_v1(p_job public.jobs); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.is_false_start_v1(p_job public.jobs) FROM PUBLIC;

-- Name: FUNCTION is_forgotten_v1(p_project_id text, p_since timestamp with time zone); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.is_forgotten_v1(p_project_id text, p_since timestamp with time zone) FROM PUBLIC;

-- Name: FUNCTION is_marked_v1(p_project_id text); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.is_marked_v1(p_project_id text) FROM PUBLIC;

-- Name: FUNCTION job_document_v1(p_job public.jobs); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.job_document_v1(p_job public.jobs) FROM PUBLIC;

-- Name: FUNCTION job_events_v1(p_job_id text, p_after bigint, p_limit integer); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.job_events_v1(p_job_id text, p_after bigint, p_limit integer) FROM PUBLIC;

-- Name: FUNCTION jobs_to_sweep_v1(p_limit integer); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.jobs_to_sweep_v1(p_limit integer) FROM PUBLIC;

-- Name: FUNCTION list_projects_v1(p_status text, p_after_at text, p_after_id text, p_limit integer); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.list_projects_v1(p_status text, p_after_at text, p_after_id text, p_limit integer) FROM PUBLIC;

-- Name: FUNCTION lock_attempt_v1(p_job_id text, p_fence bigint); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.lock_attempt_v1(p_job_id text, p_fence bigint) FROM PUBLIC;

-- Name: FUNCTION lock_idle_project_v1(p_project_id text); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.lock_idle_project_v1(p_project_id text) FROM PUBLIC;

-- Name: FUNCTION lock_project_v1(p_project_id text); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.lock_project_v1(p_project_id text) FROM PUBLIC;

-- Name: FUNCTION mark_project_v1(p_project_id text); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.mark_project_v1(p_project_id text) FROM PUBLIC;

-- Name: FUNCTION mark_swept_v1(p_job_id text); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.mark_swept_v1(p_job_id text) FROM PUBLIC;

-- Name: FUNCTION name_file_store_v1(p_id text); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.name_file_store_v1(p_id text) FROM PUBLIC;

-- Name: FUNCTION photo_document_v1(p_photo public.project_photos); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.photo_document_v1(p_photo public.project_photos) FROM PUBLIC;

-- Name: FUNCTION photos_document_v1(p_project_id text); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.photos_document_v1(p_project_id text) FROM PUBLIC;

-- Name: FUNCTION project_detail_v1(p_project_id text); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.project_detail_v1(p_project_id text) FROM PUBLIC;

-- Name: FUNCTION project_document_v1(p_project public.projects); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.project_document_v1(p_project public.projects) FROM PUBLIC;

-- Name: FUNCTION project_events_v1(p_project_id text, p_after_job bigint, p_after_seq bigint, p_limit integer); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.project_events_v1(p_project_id text, p_after_job bigint, p_after_seq bigint, p_limit integer) FROM PUBLIC;

-- Name: FUNCTION project_jobs_v1(p_project_id text); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.project_jobs_v1(p_project_id text) FROM PUBLIC;

-- Name: FUNCTION project_name_key_v1(p_project_id text); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.project_name_key_v1(p_project_id text) FROM PUBLIC;

-- Name: FUNCTION publish_preview_v1(p_job_id text, p_fence bigint, p_preview jsonb); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.publish_preview_v1(p_job_id text, p_fence bigint, p_preview jsonb) FROM PUBLIC;

-- Name: FUNCTION purge_project_v1(p_project_id text); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.purge_project_v1(p_project_id text) FROM PUBLIC;

-- Name: FUNCTION put_view_edit_v1(p_project_id text, p_edit jsonb); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.put_view_edit_v1(p_project_id text, p_edit jsonb) FROM PUBLIC;

-- Name: FUNCTION queue_order_v1(); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.queue_order_v1() FROM PUBLIC;

-- Name: FUNCTION queue_v1(); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.queue_v1() FROM PUBLIC;

-- Name: FUNCTION referenced_paths_v1(p_project_id text); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.referenced_paths_v1(p_project_id text) FROM PUBLIC;

-- Name: FUNCTION release_job_v1(p_job_id text, p_fence bigint, p_error jsonb, p_delay_s double precision); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.release_job_v1(p_job_id text, p_fence bigint, p_error jsonb, p_delay_s double precision) FROM PUBLIC;

-- Name: FUNCTION restore_version_v1(p_project_id text, p_version integer); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.restore_version_v1(p_project_id text, p_version integer) FROM PUBLIC;

-- Name: FUNCTION schema_version_v1(); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.schema_version_v1() FROM PUBLIC;

-- Name: FUNCTION show_job_on_project_v1(p_job public.jobs); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.show_job_on_project_v1(p_job public.jobs) FROM PUBLIC;

-- Name: FUNCTION stage_memory_v1(p_detail jsonb); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.stage_memory_v1(p_detail jsonb) FROM PUBLIC;

-- Name: FUNCTION stage_status_v1(p_kind text, p_stage text); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.stage_status_v1(p_kind text, p_stage text) FROM PUBLIC;

-- Name: FUNCTION submit_job_v1(p_project_id text, p_kind text, p_options jsonb, p_fingerprint text, p_idempotency_key text, p_max_attempts integer, p_max_queued integer, p_client text, p_shape text, p_webhook_url text); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.submit_job_v1(p_project_id text, p_kind text, p_options jsonb, p_fingerprint text, p_idempotency_key text, p_max_attempts integer, p_max_queued integer, p_client text, p_shape text, p_webhook_url text) FROM PUBLIC;

-- Name: FUNCTION take_photo_back_v1(p_photo_id text); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.take_photo_back_v1(p_photo_id text) FROM PUBLIC;

-- Name: FUNCTION take_view_edit_v1(p_project_id text, p_version integer, p_view_index integer); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.take_view_edit_v1(p_project_id text, p_version integer, p_view_index integer) FROM PUBLIC;

-- Name: FUNCTION touch_updated_at(); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.touch_updated_at() FROM PUBLIC;

-- Name: FUNCTION view_edit_document_v1(p_edit public.view_edits); Type: ACL; Schema: public; Owner: -

REVOKE ALL ON FUNCTION public.view_edit_document_v1(p_edit public.view_edits) FROM PUBLIC;
